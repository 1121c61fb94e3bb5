"""Why requests get 503, for the log: once in a while for each reason, since a store that is down is down for everybody."""

import logging
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("pickguard.http")

EVERY_SECONDS: Final = 10.0


class Refusals:
    """Logs each reason when it comes up, and then at most every `EVERY_SECONDS`, with how often there was one meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def note(self, reason: str) -> None:
        """Note that a request was refused. The reason is one of ours, never a client's words."""
        now = self._clock()
        count = self._since.get(reason, 0) + 1
        if now - self._logged_at.get(reason, -EVERY_SECONDS) < EVERY_SECONDS:
            self._since[reason] = count
            return
        self._logged_at[reason] = now
        self._since[reason] = 0
        logger.warning("503 for %d %s: %s", count, "request" if count == 1 else "requests", reason)
