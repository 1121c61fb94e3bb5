"""Who is next, where several would get in each other's way."""

from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Turns(Protocol):
    """Lets the tasks of one process do something one after the other. It is a help: other processes know nothing of it."""

    def of(self, thing: Hashable) -> AbstractAsyncContextManager[None]:
        """Return what to enter for one's turn at a thing, and to leave for the next one's."""
