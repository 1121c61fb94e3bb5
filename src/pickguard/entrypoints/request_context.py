"""Which request is being worked on, for whoever writes to the log."""

from contextvars import ContextVar
from typing import Final

CURRENT_REQUEST: Final[ContextVar[str | None]] = ContextVar("current_request", default=None)
"""The id of the request at hand. It is in no argument: use cases need not know that there are requests."""
