"""Turns by the event loop's locks."""

import asyncio
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from weakref import WeakValueDictionary


class LoopTurns:
    """`Turns` of the tasks of one event loop, in the order in which they come. A lock lives as long as somebody wants it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def of(self, thing: Hashable) -> AbstractAsyncContextManager[None]:
        """See `Turns.of`."""
        return self._locks.setdefault(thing, asyncio.Lock())
