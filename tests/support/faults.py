"""Faults: a client that crashes or loses answers at a chosen command, a proxy that drops replies, and what must hold after."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.claims import LEASE, Claim
from pickguard.adapters.redis.commands import Client
from tests.support.accounts import an_account, operation
from tests.support.invariants import Scan


class Crash(BaseException):
    """The process ends here: nothing may handle this."""


class FaultyClient:
    """A client whose n-th command (from 1 on) meets a fault; all others pass."""

    def __init__(self, client: Client, *, at: int, fault: str) -> None:
        self._client = client
        self._at = at
        self._fault = fault
        self.sent = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.sent += 1
        if self.sent != self._at:
            return await self._client.execute_command(*args, **options)
        if self._fault == "crash before":
            raise Crash
        if self._fault == "lose command":
            raise RedisConnectionError("cut before the command arrived")
        with contextlib.suppress(ResponseError):  # an answer as good as any other to lose
            await self._client.execute_command(*args, **options)
        if self._fault == "crash after":
            raise Crash
        raise RedisConnectionError("cut before the answer arrived")


def aged(claim: Claim, milliseconds: int) -> bytes:
    """Return the value of a claim that is older by so much, and else the same."""
    time = 6
    return claim.record[:-time] + (claim.made_at - milliseconds).to_bytes(time, "big")


async def age_claims(client: Any, milliseconds: int = 1000 * (LEASE.seconds + 1)) -> None:
    """Let time pass for every claim."""
    async for key in client.scan_iter(match="pg:email:*"):
        claim = Claim.parse(await client.get(key))
        await client.set(key, aged(claim, milliseconds))


async def broken_invariants(client: Any) -> list[str]:
    """Look at every key and say what should not be."""
    return (await Scan.of(client)).faults


async def lost_addresses(client: Any, *addresses: str) -> list[str]:
    """Say which of the addresses nobody can register although nobody has them. Registers the others."""
    accounts = RedisAccounts(client)
    lost = []
    for email in addresses:
        newcomer = an_account(email)
        if await accounts.find(newcomer.user.email) is None:
            try:
                await accounts.add(newcomer, operation=operation())
            except Exception as error:  # noqa: BLE001 (whatever it is, the address is lost)
                lost.append(f"{email}: {type(error).__name__}")
    return lost


class Proxy:
    """A Unix socket in front of a server, which drops the answer to a chosen command, or freezes at one."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.drop: Callable[[bytes], bool] = lambda _: False
        self.dropped = 0
        self.freeze: Callable[[bytes], bool] = lambda _: False
        self.frozen = False

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncGenerator[None]:
        tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks[asyncio.create_task(self._serve(reader, writer))] = writer

        server = await asyncio.start_unix_server(accept, path)
        try:
            yield
        finally:
            for _ in range(5):  # what was accepted just now gets to `accept`; a closed server would drop it
                await asyncio.sleep(0)
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in tasks.values():  # a task that had not begun, or was still connecting, has not closed its own
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        try:
            # One command is on its way at a time, so what arrives is one command, and what comes back its answer.
            while command := await reader.read(1 << 20):
                self.frozen = self.frozen or self.freeze(command)
                if self.frozen:  # for everybody, until the connection is given up
                    await reader.read()
                    break
                server_writer.write(command)
                answer = await server_reader.read(1 << 20)
                if self.drop(command):
                    self.dropped += 1
                    break
                writer.write(answer)
        finally:
            for each in (writer, server_writer):
                each.close()
            for each in (writer, server_writer):
                with contextlib.suppress(ConnectionError):
                    await each.wait_closed()
