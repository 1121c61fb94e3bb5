"""The clock and the randomness of the operating system."""

import os
from datetime import UTC, datetime


class SystemClock:
    """A `Clock` that tells the system's time."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class SystemSecrets:
    """A `SecretSource` fed by the operating system's generator."""

    def random_bytes(self, size: int) -> bytes:
        """See `SecretSource.random_bytes`."""
        return os.urandom(size)
