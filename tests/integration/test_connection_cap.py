"""How many connections there may be, and who has to go when there are more."""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from pickguard.adapters.memory import MemoryAccounts
from pickguard.entrypoints import serving as serve
from pickguard.entrypoints.http import acceptor
from pickguard.entrypoints.tls import development_certificate, server_context
from tests.integration.test_malformed_input import get, on_each_loop, post
from tests.support.http import PATIENCE, SETTINGS, Api, Wire, serving

MOST = 10
Scenario = Coroutine[Any, Any, None]
Run = Callable[[Scenario], None]


@asynccontextmanager
async def capped(most: int = MOST, **more: Any) -> AsyncGenerator[Api]:
    async with serving(MemoryAccounts(), settings=attrs.evolve(SETTINGS, max_connections=most), **more) as api:
        yield api


async def is_served(wire: Wire) -> bool:
    """Ask for something, on a connection that may have been closed."""
    try:
        await wire.send(get())
        return (await wire.answer()).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@on_each_loop
def test_the_connections_that_have_been_idle_longest_make_room_for_newcomers(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with capped() as api, AsyncExitStack() as stack:
            first = [await stack.enter_async_context(api.wire()) for _ in range(MOST)]
            for each in [*first, first[0]]:
                assert await is_served(each)
            newcomers = [await stack.enter_async_context(api.wire()) for _ in range(2)]
            for each in newcomers:
                assert await is_served(each)
            # The first one has asked again since, so the two after it have been idle longest.
            for each in first[1:3]:
                assert await each.rest() == b""
            for each in (first[0], *first[3:]):
                assert await is_served(each)

    run(scenario())
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "the longest idle make room for newcomers" in line.getMessage()


@pytest.mark.requirement(72)
@on_each_loop
def test_a_flood_of_silent_connections_shuts_nobody_out(run: Run) -> None:
    async def scenario() -> None:
        async with capped() as api:
            flood = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(MOST * 5)]
            try:
                for _ in range(5):
                    async with api.wire() as wire:
                        assert await is_served(wire)
                token = await api.sign_up()
                assert await api.opens(token)
            finally:
                for each in flood:
                    each.close()

    run(scenario())


@on_each_loop
def test_a_flood_of_clients_that_do_not_end_their_tls_handshake_shuts_nobody_out(run: Run, tmp_path: Path) -> None:
    certificate, key = development_certificate(tmp_path / "tls", "127.0.0.1")
    sides = server_context(certificate, key), ssl.create_default_context(cafile=str(certificate))

    async def scenario() -> None:
        async with capped(tls=sides) as api:
            flood = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(MOST * 5)]
            try:
                async with asyncio.timeout(acceptor.TLS_HANDSHAKE_SECONDS * 0.9):
                    for _ in range(3):
                        assert (await api.call("GET", "/livez")).status == 200
                    async with api.wire() as wire:
                        assert await is_served(wire)
            finally:
                for each in flood:
                    each.close()

    run(scenario())


@on_each_loop
def test_where_all_are_busy_a_newcomer_is_closed_at_once_and_nobody_else(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with capped() as api, AsyncExitStack() as stack:
            busy = [await stack.enter_async_context(api.wire()) for _ in range(MOST)]
            for each in busy:
                await each.send(post(b"", b"Content-Length: 200", b"Expect: 100-continue", sized=False))
            for each in busy:  # so that each has a body that is waited for
                async with asyncio.timeout(PATIENCE):
                    assert await each.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            async with api.wire() as newcomer:
                assert await newcomer.rest() == b""
            for each in busy:
                await each.send(b" " * 200)
                assert (await each.answer()).status == 400
            async with api.wire() as newcomer:  # now one is idle
                assert await is_served(newcomer)

    run(scenario())
    assert [record for record in caplog.records if "all are busy: newcomers are closed" in record.getMessage()]


@on_each_loop
def test_connections_that_have_ended_in_any_way_are_not_counted(run: Run, tmp_path: Path) -> None:
    certificate, key = development_certificate(tmp_path / "tls", "127.0.0.1")
    sides = server_context(certificate, key), ssl.create_default_context(cafile=str(certificate))

    async def scenario() -> None:
        for tls in (None, sides):
            async with capped(tls=tls) as api, api.wire() as kept:
                assert await is_served(kept)
                for number in range(MOST * 2):
                    if number % 3 == 0:
                        async with api.wire() as wire:
                            assert await is_served(wire)
                    elif number % 3 == 1:
                        with socket.create_connection(("127.0.0.1", api.port)) as plain:
                            plain.send(b"no TLS, and no HTTP\r\n\r\n")
                    else:
                        socket.create_connection(("127.0.0.1", api.port)).close()
                    await asyncio.sleep(0)
                assert await is_served(kept)

    run(scenario())


@on_each_loop
def test_where_the_system_has_no_more_files_those_who_come_wait_a_little(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with capped(most=1000) as api:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            idle = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(20)]
            assert (await api.call("GET", "/livez")).status == 200
            try:
                lowest = socket.socket()
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 1, hard))
                async with asyncio.timeout(PATIENCE):
                    lowest.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(lowest, ("127.0.0.1", api.port))
                    await asyncio.get_running_loop().sock_sendall(lowest, get(b"Connection: close"))
                    answer = b""
                    while part := await asyncio.get_running_loop().sock_recv(lowest, 65536):
                        answer += part
                assert answer.startswith(b"HTTP/1.1 200 ")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in (*idle, lowest):
                    each.close()

    monkeypatch.setattr(acceptor, "PAUSE_SECONDS", 0.02)
    run(scenario())
    assert [record for record in caplog.records if "no room for more: Too many open files" in record.getMessage()]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What a process may open, for as long as the test lasts."""
    found = {"soft": 1024, "hard": 524_288}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (found["soft"], found["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: found.update(soft=both[0], hard=both[1]))
    return found


def test_a_process_may_open_as_many_files_as_all_connections_need(limits: dict[str, int]) -> None:
    settings = attrs.evolve(SETTINGS, max_connections=5000)
    assert serve._with_files(settings) == settings
    assert 5000 + settings.store_connections < limits["soft"] < 6000
    assert limits["hard"] == 524_288
    unlimited = dict(limits)
    assert serve._with_files(attrs.evolve(SETTINGS, max_connections=100)).max_connections == 100
    assert limits == unlimited


def test_where_fewer_files_are_allowed_there_are_fewer_connections(
    limits: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    limits["hard"] = 4096
    settings = serve._with_files(attrs.evolve(SETTINGS, max_connections=5000))
    assert limits["soft"] == 4096
    assert 3000 < settings.max_connections < 4096 - settings.store_connections
    (line,) = caplog.messages
    assert f"at most {settings.max_connections} connections" in line
    assert "--max-connections 5000" in line


def test_a_limit_that_the_kernel_does_not_keep_is_lived_with(
    limits: dict[str, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    settings = serve._with_files(attrs.evolve(SETTINGS, max_connections=5000))
    assert settings.max_connections < 1024
    assert len(caplog.messages) == 1
    assert limits["soft"] == 1024
