"""Events as lines of a log: one JSON object each, for people and for machines that collect them."""

import enum
import json
import logging
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import attrs

from pickguard.domain.model.events import Event

EVENTS_LOGGER = "pickguard.events"
logger = logging.getLogger(EVENTS_LOGGER)

_TOLD_OTHERWISE = {"user_id", "at", "client", "by_operator"}


class LoggedEvents:
    """An `EventPublisher` that writes each event to the logger ``pickguard.events``.

    A line has the event's name, its time in UTC, the request that caused it, the account it is about (`subject`), the network
    address it came from (`source`) and how it ended (`outcome`); then what is particular to it (ASVS 5.0 16.2.1, 16.3.1). Where
    an operator did it, it has ``"by": "operator"``. No event holds a credential. JSON in ASCII escapes control characters, and
    what Unicode calls line ends, so that what a client sent cannot forge a line (16.4.1). What a client calls itself is left
    out: it may hold anything, a token even.
    """

    def __init__(self, *, request_id: Callable[[], str | None] = lambda: None) -> None:
        """`request_id` returns the id of the request at hand, if there is one."""
        self._request_id = request_id

    def publish(self, event: Event) -> None:
        """See `EventPublisher.publish`."""
        if logger.isEnabledFor(logging.INFO):
            content = {
                "event": type(event).__name__,
                "time": event.at,
                "outcome": event.outcome,
                "request_id": self._request_id(),
                "subject": event.user_id,
                "source": event.client.ip,
                **({"by": "operator"} if event.by_operator else {}),
                **attrs.asdict(event, recurse=False, filter=lambda field, _: field.name not in _TOLD_OTHERWISE),
            }
            fields = {name: _plain(value) for name, value in content.items()}
            logger.info("%s", json.dumps(fields), extra={"fields": fields})


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value
