"""What time it is."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. A test brings its own and moves it as it likes."""

    def now(self) -> datetime:
        """Return the present moment in UTC, to the millisecond."""
