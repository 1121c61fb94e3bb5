"""Commands of many requests on one connection: what is asked for in one turn of the event loop leaves in one packet.

To take a connection for each command costs a client far more than the answer costs the server. Commands that may as well run
twice need none of their own: they are written one after the other, and answered in that order. An error is the answer to its
own command only, and who stops waiting leaves a gap; what one request gets depends on no other.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.commands import NotSentError
from pickguard.adapters.redis.wire import Companions

_UNFINISHED: Final = object()
_SECOND_LOOK: Final = 0.005
"""Seconds. After a pause of the whole process its timers come before what has arrived meanwhile."""

_Asked = tuple[bytes, "asyncio.Future[Any]"]


class Source(Protocol):
    """Where connections come from, and how long they are good for."""

    async def connect(self) -> Companions:
        """Return a new connection. Raises one of `FAILURES`, `NotSentError` where there is no server to be had."""

    def is_current(self, connection: Companions) -> bool:
        """Tell whether commands may go on a connection without asking anybody."""

    async def confirm(self, connection: Companions) -> bool:
        """Ask whether commands may still go on a connection."""


class Autopipeline:
    """Sends commands in the order in which they are asked for, on one connection, and waits for none before the next.

    The connection is made for the first command, and again for the next one after it was lost.
    """

    def __init__(self, source: Source, *, patience: float) -> None:
        self._source = source
        self._patience = patience
        self._line: _Line | None = None
        self._queued: list[_Asked] = []
        self._scheduled = False
        self._opening: asyncio.Task[None] | None = None

    def ask(self, *args: Any) -> "asyncio.Future[Any]":
        """Send a command that may as well run twice; its answer is the future's result.

        The future raises `NotSentError` where no connection was to be had, a `ConnectionError` or `TimeoutError` of redis-py's
        where the connection broke or `patience` seconds went by, and what the server refused the command with.
        """
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._queued.append((hiredis.pack_command(args), answer))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return answer

    async def aclose(self) -> None:
        """Close the connection. Who still waits gets a `ConnectionError`."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._line is not None:
            self._line.lose(RedisConnectionError("the client was closed"))
        self._fail(NotSentError("the client was closed"))

    def _flush(self) -> None:
        self._scheduled = False
        if self._opening is not None or not self._queued:
            return  # it sends all in the end; or the client was closed
        line = self._line
        if line is not None and line.is_open and self._source.is_current(line.connection):
            self._send(line)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            line = self._line
            if line is not None and line.is_open and not await self._source.confirm(line.connection):
                line.retire()
            if line is None or not line.is_open:
                line = self._line = _Line(await self._source.connect(), self._patience)
        except Exception as error:  # noqa: BLE001 (all who wait get it, and nobody else can)
            self._fail(error)
        else:
            self._send(line)
        finally:
            self._opening = None

    def _send(self, line: "_Line") -> None:
        queued, self._queued = self._queued, []
        line.send(queued)

    def _fail(self, error: Exception) -> None:
        queued, self._queued = self._queued, []
        for _, answer in queued:
            if not answer.done():
                answer.set_exception(error)


class _Line(asyncio.Protocol):
    """A connection of redis-py's, from the moment on at which it has made itself known to the server."""

    def __init__(self, connection: Companions, patience: float) -> None:
        self.connection = connection
        self.is_open = True
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._is_late = False
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=connection.error_of, notEnoughData=_UNFINISHED)
        self._transport = connection.lend(self)

    def send(self, asked: Sequence[_Asked]) -> None:
        """Send commands, less those whose answer nobody waits for any more."""
        now = self._loop.time()
        packets = []
        for packet, answer in asked:
            if not answer.done():
                packets.append(packet)
                self._waiting.append((now, answer))
        if not packets:
            return
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience, self._look_at_the_clock)
        self._transport.write(b"".join(packets))

    def data_received(self, data: bytes) -> None:
        """Hand out answers, in the order of the questions."""
        self._is_late = False
        self._reader.feed(data)
        waiting = self._waiting
        try:
            while (found := self._reader.gets()) is not _UNFINISHED:
                answer = waiting.popleft()[1]
                if answer.done():
                    continue
                if isinstance(found, Exception):
                    answer.set_exception(found)
                else:
                    answer.set_result(found)
        except (InvalidResponse, IndexError):  # no answer, or one to nothing
            self.lose(RedisConnectionError("the server said what is no answer to anything"))
        if not waiting and not self.is_open:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait that there will be no answer."""
        self.lose(RedisConnectionError(f"the connection was closed: {exc}" if exc else "the server closed the connection"))
        self.connection.forget(exc)

    def retire(self) -> None:
        """Take no more commands, and close when the last answer is there."""
        self.is_open = False
        if not self._waiting:
            self._transport.close()

    def lose(self, error: RedisConnectionError | RedisTimeoutError) -> None:
        """Give the connection up."""
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        with contextlib.suppress(RuntimeError):  # of a loop that is closed
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            if not answer.done():
                answer.set_exception(error)

    def _look_at_the_clock(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0][0] + self._patience - self._loop.time()
        if left > 0:
            self._is_late = False
        elif self._is_late:
            self.lose(RedisTimeoutError("the server did not answer in time"))
            return
        else:
            self._is_late = True
        self._watch = self._loop.call_later(max(left, _SECOND_LOOK), self._look_at_the_clock)
