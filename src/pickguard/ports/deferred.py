"""What is done after the answer, and waiting."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol


class Deferred(Protocol):
    """Does work that nobody waits for, so that how long it takes tells nobody anything.

    Work that raises `Unavailable` is tried again a few times and then given up, which is logged; it outlives no crash. So it
    must have no effect, or the same one, when it is done again, and nothing that was acknowledged may depend on it.
    """

    def submit(self, work: Callable[[], Awaitable[None]], *, what: str) -> None:
        """Take work to be begun soon, in whatever order. Returns at once. `what` names it for the log.

        Raises `Unavailable` where too much is waiting already.
        """


class Pace(Protocol):
    """Lets time pass."""

    async def wait(self, span: timedelta) -> None:
        """Return after this time."""
