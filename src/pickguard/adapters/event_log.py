"""Events as lines of a log: one JSON object each, for people and for machines that collect them."""

import enum
import json
import logging
from datetime import datetime
from uuid import UUID

import attrs

from pickguard.domain.model.events import Event

logger = logging.getLogger("pickguard.events")


class LoggedEvents:
    """An `EventPublisher` that writes each event to the logger ``pickguard.events``.

    No event holds a credential, and JSON escapes control characters, so that what a client sent cannot forge a line (ASVS
    5.0 16.4.1).
    """

    def publish(self, event: Event) -> None:
        """See `EventPublisher.publish`."""
        if logger.isEnabledFor(logging.INFO):
            content = attrs.asdict(event, filter=_is_ours, value_serializer=_plain)
            logger.info("%s", json.dumps({"event": type(event).__name__, **content}))


def _is_ours(field: "attrs.Attribute[object]", _: object) -> bool:
    """Leave out what a client calls itself: it may hold anything, a token even."""
    return field.name != "user_agent"


def _plain(_instance: object, _field: object, value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value
