"""Events as lines of a log: one JSON object each, for people and for machines that collect them."""

import enum
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

import attrs

from pickguard.domain.model.events import Event, LimitReached, ServiceRefused
from pickguard.domain.model.limits import Limit

EVENTS_LOGGER = "pickguard.events"
logger = logging.getLogger(EVENTS_LOGGER)

_TOLD_OTHERWISE = {"user_id", "at", "client", "by_operator"}


EVERY_SECONDS: Final = 10.0
"""The time for which lines are counted that anybody can cause."""
MOST_FROM_ONE: Final = 10
"""Of those, from one network address and of one kind, so many in that time."""
MOST: Final = 50
"""And of one kind, so many from all. Each kind has its own, so that none can be hidden behind another."""
_UNLIMITED: Final = (LimitReached, ServiceRefused)
"""What anybody can cause as often as they like, at no cost: nothing else stands between them and a full disk."""


class LoggedEvents:
    """An `EventPublisher` that writes each event to the logger ``pickguard.events``.

    A line has the event's name, its time in UTC, the request that caused it, the account it is about (`subject`), the network
    address it came from (`source`) and how it ended (`outcome`); then what is particular to it (ASVS 5.0 16.2.1, 16.3.1). Where
    an operator did it, it has ``"by": "operator"``. No event holds a credential. JSON in ASCII escapes control characters, and
    what Unicode calls line ends, so that what a client sent cannot forge a line (16.4.1). What a client calls itself is left
    out: it may hold anything, a token even.

    Of what anybody can cause as often as they like only so many lines are written in a time, and the next one of its kind says
    how many were `left_out`.
    """

    def __init__(
        self, *, request_id: Callable[[], str | None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`request_id` returns the id of the request at hand, if there is one."""
        self._request_id = request_id
        self._sluice = _Sluice(clock)

    def publish(self, event: Event) -> None:
        """See `EventPublisher.publish`."""
        if logger.isEnabledFor(logging.INFO):
            left_out = 0
            if isinstance(event, _UNLIMITED):
                kind = event.limit if isinstance(event, LimitReached) else type(event)
                if not self._sluice.admits(kind, event.client.ip):
                    return
                left_out = self._sluice.left_out(kind)
            content = {
                "event": type(event).__name__,
                "time": event.at,
                "outcome": event.outcome,
                "request_id": self._request_id(),
                "subject": event.user_id,
                "source": event.client.ip,
                **({"by": "operator"} if event.by_operator else {}),
                **attrs.asdict(event, recurse=False, filter=lambda field, _: field.name not in _TOLD_OTHERWISE),
                **({"left_out": left_out} if left_out else {}),
            }
            fields = {name: _plain(value) for name, value in content.items()}
            logger.info("%s", json.dumps(fields), extra={"fields": fields})


_Kind = Limit | type[Event]


class _Sluice:
    """Lets so many lines of each kind through in a time, and counts the others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = clock()
        self._admitted: Counter[tuple[_Kind, str | None]] = Counter()
        self._of_kind: Counter[_Kind] = Counter()
        self._left_out: Counter[_Kind] = Counter()

    def admits(self, kind: _Kind, source: str | None) -> bool:
        """Tell whether a line may be written; it counts as written."""
        now = self._clock()
        if now >= self._until:
            self._until = now + EVERY_SECONDS
            self._admitted.clear()
            self._of_kind.clear()
        if self._admitted[kind, source] >= MOST_FROM_ONE or self._of_kind[kind] >= MOST:
            self._left_out[kind] += 1
            return False
        self._admitted[kind, source] += 1
        self._of_kind[kind] += 1
        return True

    def left_out(self, kind: _Kind) -> int:
        """Return how many were not written since the last that was, and forget them."""
        return self._left_out.pop(kind, 0)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value
