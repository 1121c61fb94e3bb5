"""How the log is written: for people, for machines, or each kind of line for who reads it."""

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from pickguard.entrypoints.request_context import CURRENT_REQUEST

MIXED: Final = "mixed"
HUMAN: Final = "human"
JSON: Final = "json"
FORMATS: Final = (MIXED, HUMAN, JSON)
"""What `--log-format` can be. `MIXED`: lines for people, and those that have fields, which machines read as well, as JSON."""

_QUIET: Final = ("aiohttp", "asyncio", "opentelemetry", "urllib3")
"""Libraries that quote what clients send, or say much: only what they warn of is of interest."""
_WORD: Final = re.compile(r"[A-Za-z0-9_.:/+@-]+", re.ASCII)


def set_up(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Have everything that is logged from now on written to a stream, standard error if none is given."""
    stream = sys.stderr if stream is None else stream
    formatter: logging.Formatter = JsonLines() if form == JSON else HumanLines(spell_out=form == HUMAN)
    logging.basicConfig(level=level.upper(), handlers=[_to(stream, formatter)], force=True)
    # An event is a line of JSON, whole, with a time of its own: a machine can read it as it is.
    events = logging.getLogger("pickguard.events")
    bare = form == MIXED
    events.handlers, events.propagate = ([_to(stream, logging.Formatter())] if bare else []), not bare
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _to(stream: TextIO, formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what a line consists of, where it is made of fields: an event, or a request of the access log.

    Whoever logs gives them as `extra={"fields": …}` beside the message that says the same.
    """
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


class HumanLines(logging.Formatter):
    """Time in UTC, level, logger and message; a traceback follows on lines of its own.

    Fields are spelled out as ``name=value``, in quotes where they are not plain words, or stay the JSON that the message is.
    """

    def __init__(self, *, spell_out: bool) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._spell_out = spell_out

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name for it)
        """Write one line."""
        fields = fields_of(record)
        if self._spell_out and fields:
            told = (f"{name}={_shown(value)}" for name, value in fields.items() if name not in {"event", "time"})
            record.message = " ".join((_headline(fields), *told))
        return super().formatMessage(record)


def _headline(fields: Mapping[str, Any]) -> str:
    return str(fields.get("event", "request"))


def _shown(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text)


class JsonLines(logging.Formatter):
    """Each line is one JSON object in ASCII: `time`, `level`, `logger`, `message`, then what is known beside it.

    That is `request_id`, where a request is being worked on, the fields of an event or a request, and `exception` with a
    traceback. Control characters, and what Unicode calls line ends, are escaped: nothing can forge a line (ASVS 5.0 16.4.1).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        fields = fields_of(record)
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _headline(fields) if fields else record.getMessage(),
        }
        request_id = CURRENT_REQUEST.get()
        if request_id is not None:
            content["request_id"] = request_id
        content |= fields
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)
