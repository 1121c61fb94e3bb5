"""Commands that are sent together: nothing that happens to one of them touches another."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import hiredis
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.autopipeline import Autopipeline
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.commands import NotSentError
from pickguard.adapters.redis.connection import open_client
from tests.support.redis_servers import free_port

HANDSHAKE = {b"CLIENT", b"SELECT", b"HELLO", b"AUTH"}
LIMIT = 10.0


class ScriptedServer(asyncio.Protocol):
    """Answers as a test says."""

    def __init__(self, owner: "Script") -> None:
        self.owner = owner
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.owner.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        commands = [tuple(command) for command in iter(self._reader.gets, False)]
        asked = [command for command in commands if command[0] not in HANDSHAKE]
        self.transport.write(b"+OK\r\n" * (len(commands) - len(asked)))
        if asked:
            for command in asked:
                self.owner.asked.append(command)
                self.owner.answer(self, command)
            self.owner.arrived.set()


class Script:
    """What such a server does with a command; echoes its last word unless told otherwise."""

    def __init__(self) -> None:
        self.connections: list[ScriptedServer] = []
        self.asked: list[tuple[bytes, ...]] = []
        self.arrived = asyncio.Event()
        self.answer: Callable[[ScriptedServer, tuple[bytes, ...]], None] = echo


def echo(server: ScriptedServer, command: tuple[bytes, ...]) -> None:
    server.transport.write(b"$%d\r\n%s\r\n" % (len(command[-1]), command[-1]))


def say_nothing(_: ScriptedServer, __: tuple[bytes, ...]) -> None:
    pass


@asynccontextmanager
async def scripted(*, patience: float = LIMIT) -> AsyncGenerator[tuple[Script, StoreClient]]:
    script = Script()
    server = await asyncio.get_running_loop().create_server(lambda: ScriptedServer(script), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(port, patience=patience) as client, asyncio.timeout(LIMIT):
        try:
            yield script, client
        finally:
            server.close()
            for each in script.connections:
                each.transport.abort()


def opened(port: int, *, patience: float = LIMIT) -> StoreClient:
    return open_client(
        f"redis://127.0.0.1:{port}",
        connections=1,
        connect_timeout=timedelta(seconds=LIMIT),
        command_timeout=timedelta(seconds=patience),
    )


class Recorded(asyncio.Transport):
    """A way out that keeps what goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        pass


class Kept:
    """A source of one connection, which is a connection as well."""

    def __init__(self) -> None:
        self.transport = Recorded()

    async def connect(self) -> Any:
        return self

    def is_current(self, _: Any) -> bool:
        return True

    async def confirm(self, _: Any) -> bool:
        return True

    def lend(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        self.protocol = protocol
        return self.transport

    def error_of(self, text: str) -> Exception:
        return ResponseError(text)


async def test_what_is_asked_in_one_turn_leaves_at_once_and_everybody_gets_their_own_answer() -> None:
    kept = Kept()
    pipeline = Autopipeline(kept, patience=LIMIT)
    for turn in range(3):
        asking = [pipeline.ask("GET", f"{turn} {number}") for number in range(100)]
        while len(kept.transport.written) <= turn:
            await asyncio.sleep(0)
        kept.protocol.data_received(b"".join(b"$3\r\n%03d\r\n" % number for number in range(100)))
        assert await asyncio.gather(*asking) == [b"%03d" % number for number in range(100)]
    assert len(kept.transport.written) == 3
    await pipeline.aclose()


async def test_what_is_asked_first_waits_for_the_one_connection() -> None:
    async with scripted() as (script, client):
        answers = await asyncio.gather(*(client.ask("GET", f"key {number}") for number in range(100)))
        assert answers == [b"key %d" % number for number in range(100)]
        assert len(script.connections) == 1


async def test_the_next_command_does_not_wait_for_the_answer_to_the_one_before() -> None:
    async with scripted() as (script, client):
        await client.ask("GET", "connected")
        script.answer = say_nothing
        first = asyncio.ensure_future(client.ask("GET", "first"))
        await arrival(script)
        script.answer = lambda server, _: server.transport.write(b"$3\r\n1st\r\n$3\r\n2nd\r\n")
        assert await client.ask("GET", "second") == b"2nd"
        assert await first == b"1st"


async def test_an_error_is_the_answer_to_its_own_command_only() -> None:
    def refuse(server: ScriptedServer, command: tuple[bytes, ...]) -> None:
        if command[-1] == b"bad":
            server.transport.write(b"-WRONGTYPE no\r\n")
        else:
            echo(server, command)

    async with scripted() as (script, client):
        script.answer = refuse
        names = ["one", "bad", "two", "bad", "three"]
        answers = await asyncio.gather(*(client.ask("GET", name) for name in names), return_exceptions=True)
        assert answers[::2] == [b"one", b"two", b"three"]
        assert all(isinstance(answer, ResponseError) for answer in answers[1::2])
        assert len(script.connections) == 1


@pytest.mark.would_have_caught("redis-py-cve-2023-28858")
@pytest.mark.parametrize("seed", range(10))
async def test_who_stops_waiting_takes_nobody_elses_answer(seed: int) -> None:
    random = Random(seed)
    async with scripted() as (script, client):
        held: list[bytes] = []
        script.answer = lambda _, command: held.append(command[-1])
        asking = [asyncio.ensure_future(client.ask("GET", f"key {number}")) for number in range(200)]
        while len(held) < len(asking):
            await arrival(script)
        gone = set(random.sample(range(len(asking)), 100))
        for number in gone:
            asking[number].cancel()
        rest = b"".join(b"$%d\r\n%s\r\n" % (len(key), key) for key in held)
        while rest:  # in pieces that end anywhere
            size = random.randint(1, 500)
            script.connections[0].transport.write(rest[:size])
            rest = rest[size:]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for number, answer in enumerate(answers):
            if number in gone:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert answer == b"key %d" % number


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    async with scripted() as (script, client):
        await client.ask("GET", "connected")
        left = asyncio.ensure_future(client.ask("GET", "left"))
        stays = asyncio.ensure_future(client.ask("GET", "stays"))
        left.cancel()
        assert await stays == b"stays"
        with pytest.raises(asyncio.CancelledError):
            await left
        assert script.asked == [(b"GET", b"connected"), (b"GET", b"stays")]


async def test_a_late_answer_fails_all_who_wait_and_the_next_command_goes_on_a_new_connection() -> None:
    async with scripted(patience=0.05) as (script, client):
        script.answer = say_nothing
        answers = await asyncio.gather(*(client.ask("GET", name) for name in ("one", "two")), return_exceptions=True)
        assert all(isinstance(answer, RedisTimeoutError) for answer in answers)
        script.answer = echo
        assert await client.ask("GET", "three") == b"three"
        assert len(script.connections) == 2


async def test_a_process_that_stood_still_reads_what_has_come_before_it_calls_an_answer_late() -> None:
    async with scripted(patience=0.05) as (script, client):
        await client.ask("GET", "connected")

        def stand_still(server: ScriptedServer, command: tuple[bytes, ...]) -> None:
            echo(server, command)
            time.sleep(0.2)

        script.answer = stand_still
        assert await client.ask("GET", "one") == b"one"
        assert len(script.connections) == 1


async def test_a_connection_that_breaks_fails_those_without_an_answer_only() -> None:
    def break_at_two(server: ScriptedServer, command: tuple[bytes, ...]) -> None:
        if command[-1] == b"two":
            server.transport.close()
        elif not server.transport.is_closing():
            echo(server, command)

    async with scripted() as (script, client):
        await client.ask("GET", "connected")
        script.answer = break_at_two
        answers = await asyncio.gather(*(client.ask("GET", name) for name in ("one", "two", "three")), return_exceptions=True)
        assert answers[0] == b"one"
        assert all(isinstance(answer, RedisConnectionError) and not isinstance(answer, NotSentError) for answer in answers[1:])
        script.answer = echo
        assert await client.ask("GET", "four") == b"four"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b"$1\r\na\r\n$1\r\nb\r\n", id="two answers to one command"),
    ],
)
async def test_a_connection_on_which_nonsense_came_is_not_used_again(said: bytes) -> None:
    async with scripted() as (script, client):
        script.answer = lambda server, _: server.transport.write(said)
        await asyncio.gather(client.ask("GET", "one"), return_exceptions=True)
        script.answer = echo
        assert await client.ask("GET", "two") == b"two"
        assert len(script.connections) == 2


async def test_a_client_that_closes_leaves_nobody_waiting() -> None:
    async with scripted() as (script, client):
        script.answer = say_nothing
        asking = asyncio.ensure_future(client.ask("GET", "one"))
        await arrival(script)
        await client.aclose()
        with pytest.raises(RedisConnectionError):
            await asking


async def test_where_there_is_no_server_nothing_was_sent() -> None:
    async with opened(free_port()) as client:
        answers = await asyncio.gather(*(client.ask("GET", name) for name in ("one", "two")), return_exceptions=True)
        assert all(isinstance(answer, NotSentError) for answer in answers)


async def arrival(script: Script) -> None:
    script.arrived.clear()
    await script.arrived.wait()
