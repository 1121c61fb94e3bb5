"""Who is let in: connections are accepted here, up to a cap, and those that have been idle longest make room for newcomers.

asyncio's servers accept without end, and hold one TLS context for as long as they live. Here the count is exact, also of
clients that have not ended their TLS handshake, and newcomers get the certificate that was loaded last.
"""

import asyncio
import errno
import heapq
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import attrs

from pickguard.entrypoints.http.protocol import Connection

logger = logging.getLogger("pickguard.http")

BACKLOG: Final = 1024
"""How many connections the kernel keeps that are not accepted yet."""
TLS_HANDSHAKE_SECONDS: Final = 4.0
TLS_SHUTDOWN_SECONDS: Final = 2.0
ACCEPTED_AT_ONCE: Final = 64
"""How many newcomers are let in before the others are served again."""
ROOM_SHARE: Final = 100
"""One part in so many is closed when there is no room, so that to look for the longest idle is not done for each newcomer."""
PAUSE_SECONDS: Final = 0.2
"""How long nobody is let in when the system has no more files or memory for connections."""
NOTE_SECONDS: Final = 10.0
"""The least time between two lines of the log about the same."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@attrs.define(kw_only=True, eq=False)
class _Entrance:
    """How a client comes in: at what time, and the task that shakes hands with it, as long as it does."""

    connected: socket.socket
    at: float
    task: "asyncio.Task[None] | None" = None
    has_begun: bool = False


class Acceptor:
    """Accepts the connections of one listening socket on the running event loop, at most `most` at a time.

    Where there are as many, one more closes those that have waited longest for their client to say something: to end its TLS
    handshake, to send its next request, or the rest of its header. If none of them waits, the newcomer is closed.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None,
        most: int,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        """`watch` is told how many connections there are, whenever that changes."""
        self._listener = listener
        self._make = make
        self._most = most
        self._watch = watch
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._clients: dict[Connection, _Entrance] = {}
        self._paused: asyncio.TimerHandle | None = None
        self._is_open = False
        self._said: dict[str, float] = {}

    def open(self) -> None:
        """Listen, and let clients in."""
        self._listener.listen(BACKLOG)
        self._is_open = True
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def renew(self, tls: ssl.SSLContext) -> None:
        """Shake hands in another context from now on. Connections that are open go on in theirs."""
        self._tls = tls

    def close(self) -> None:
        """Let nobody in any more. Whoever is in stays."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listener.fileno())
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None

    def give_up(self) -> None:
        """Cut off all that have not ended their TLS handshake."""
        for connection, entrance in list(self._clients.items()):
            if entrance.task is not None:
                self._shut_out(connection, entrance)

    @property
    def is_shaking_hands(self) -> bool:
        """Whether anybody is about to come in."""
        return any(entrance.task is not None for entrance in self._clients.values())

    def let_in(self, connected: socket.socket) -> None:
        """Serve a connection that the kernel has accepted, or close it where there is no room."""
        if len(self._clients) >= self._most:
            if not self._make_room():
                connected.close()
                if self._is_news("busy"):
                    logger.warning(
                        "there are %d connections, as many as there may be, and all are busy: newcomers are closed", self._most
                    )
                return
            if self._is_news("full"):
                logger.warning(
                    "there are %d connections, as many as there may be: the longest idle make room for newcomers", self._most
                )
        connected.setblocking(False)
        connection = self._make()
        entrance = _Entrance(connected=connected, at=self._loop.time())
        self._clients[connection] = entrance
        self._note_count()
        connection.on_end(self._forget)
        entrance.task = self._loop.create_task(self._shake_hands(connection, entrance))

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return
            self.let_in(connected)

    def _pause(self, error: OSError) -> None:
        """Wait for others to leave, and see to it that some do; the kernel would call again at once."""
        self._make_room()
        if self._is_news("exhausted"):
            logger.warning("with %d connections the system has no room for more: %s", len(self._clients), error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._paused = self._loop.call_later(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        if self._is_open:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _shake_hands(self, connection: Connection, entrance: _Entrance) -> None:
        entrance.has_begun = True
        tls = self._tls
        limits: dict[str, Any] = (
            {"ssl_handshake_timeout": TLS_HANDSHAKE_SECONDS, "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS} if tls else {}
        )
        is_in = False
        try:
            await self._loop.connect_accepted_socket(lambda: connection, entrance.connected, ssl=tls, **limits)
            is_in = True
        except OSError:
            pass  # gone again, or no TLS, or too slow
        finally:
            entrance.task = None
            if not is_in:
                self._forget(connection)

    def _make_room(self) -> bool:
        """Close those that have been idle longest, and tell whether there were any."""
        idle = [
            (since, number, connection, entrance)
            for number, (connection, entrance) in enumerate(self._clients.items())
            if (since := entrance.at if entrance.task is not None else connection.idle_since) is not None
        ]
        for _, _, connection, entrance in heapq.nsmallest(max(1, self._most // ROOM_SHARE), idle):
            self._shut_out(connection, entrance)
        return bool(idle)

    def _shut_out(self, connection: Connection, entrance: _Entrance) -> None:
        self._forget(connection)
        if entrance.task is None:
            connection.cut_off()
            return
        entrance.task.cancel()
        if not entrance.has_begun:
            entrance.connected.close()

    def _forget(self, connection: Connection) -> None:
        if self._clients.pop(connection, None) is not None:
            self._note_count()

    def _note_count(self) -> None:
        if self._watch is not None:
            self._watch(len(self._clients))

    def _is_news(self, kind: str) -> bool:
        """Tell whether something is to be logged, which it is once in a while."""
        now = self._loop.time()
        last = self._said.get(kind)
        if last is not None and now - last < NOTE_SECONDS:
            return False
        self._said[kind] = now
        return True
