"""The way between a client and its server, on which one chosen command or its reply meets a fault."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

CUT_COMMAND: Final = "cut before the command"
HALF_COMMAND: Final = "cut within the command"
LATE_COMMAND: Final = "command held until its caller gave up"
LATER_COMMAND: Final = "command held until another write was made"
CUT_REPLY: Final = "cut before the reply"
HALF_REPLY: Final = "cut within the reply"
NO_REPLY: Final = "reply dropped"
STUCK_REPLY: Final = "reply stuck half-way"
SLOW_REPLY: Final = "reply delayed"

FAULTS: Final = (
    CUT_COMMAND,
    HALF_COMMAND,
    LATE_COMMAND,
    LATER_COMMAND,
    CUT_REPLY,
    HALF_REPLY,
    NO_REPLY,
    STUCK_REPLY,
    SLOW_REPLY,
)


def end_of(message: bytes, start: int = 0) -> int | None:
    """Return where the RESP2 value ends that begins there; None if it has not all arrived."""
    line_end = message.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, rest, after = message[start : start + 1], message[start + 1 : line_end], line_end + 2
    if kind == b"$" and rest != b"-1":
        end = after + int(rest) + 2
        return end if end <= len(message) else None
    if kind == b"*":
        place: int | None = after
        for _ in range(int(rest)):
            if place is None:
                break
            place = end_of(message, place)
        return place
    return after


class Side:
    """One end of a connection, read value by value."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._arrived = b""

    async def read(self) -> bytes:
        """Return the next command or reply; nothing where the connection has ended."""
        while (end := end_of(self._arrived)) is None:
            more = await self._reader.read(1 << 16)
            if not more:
                return b""
            self._arrived += more
        value, self._arrived = self._arrived[:end], self._arrived[end:]
        return value

    async def ended(self) -> None:
        """Wait until the other end has closed the connection."""
        await self._reader.read()


class Wire:
    """A Unix socket in front of a server. The n-th command that comes this way, from 1 on, meets a fault; 0 stands for none.

    A command that is held goes on to the server once `release` is set.
    """

    def __init__(self, port: int, *, at: int = 0, fault: str = "", delay: float = 0.0) -> None:
        self.commands = 0
        self.met = False
        self.release = asyncio.Event()
        self.delivered = asyncio.Event()
        self._port = port
        self._at = at
        self._fault = fault
        self._delay = delay

    def holds(self, fault: str) -> bool:
        """Tell whether a command is held, and by this fault."""
        return self.met and self._fault == fault

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncGenerator[None]:
        """Listen at a socket."""
        tasks: set[asyncio.Task[None]] = set()
        writers: list[asyncio.StreamWriter] = []
        open_to_all = True

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            if open_to_all:
                tasks.add(asyncio.create_task(self._serve(Side(reader, writer))))
            else:  # it was on its way when the server was closed
                writer.close()

        server = await asyncio.start_unix_server(accept, path)
        try:
            yield
        finally:
            open_to_all = False
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in writers:  # also of those whose task never began
                writer.close()

    async def _serve(self, client: Side) -> None:
        sides = [client]
        try:
            server = Side(*await asyncio.open_connection("127.0.0.1", self._port))
            sides.append(server)
            with contextlib.suppress(ConnectionError):
                await self._pass_on(client, server)
        finally:
            for side in sides:
                side.writer.close()
            for side in sides:
                with contextlib.suppress(ConnectionError):
                    await side.writer.wait_closed()

    async def _pass_on(self, client: Side, server: Side) -> None:
        while command := await client.read():
            self.commands += 1
            if self.commands != self._at:
                server.writer.write(command)
                client.writer.write(await server.read())
                continue
            self.met = True
            if not await self._meet_fault(command, client, server):
                return

    async def _meet_fault(self, command: bytes, client: Side, server: Side) -> bool:
        """Tell whether the connection goes on."""
        if self._fault == CUT_COMMAND:
            return False
        if self._fault == HALF_COMMAND:
            server.writer.write(command[: len(command) // 2])
            await server.writer.drain()
            return False
        if self._fault in {LATE_COMMAND, LATER_COMMAND}:
            await self.release.wait()
        server.writer.write(command)
        reply = await server.read()
        if self.release.is_set():
            self.delivered.set()
            return False
        half = len(reply) // 2
        if self._fault in {HALF_REPLY, STUCK_REPLY, SLOW_REPLY}:
            client.writer.write(reply[:half])
            await client.writer.drain()
        if self._fault in {NO_REPLY, STUCK_REPLY}:
            await client.ended()
        if self._fault == SLOW_REPLY:
            await asyncio.sleep(self._delay)
            client.writer.write(reply[half:])
            return True
        return False
