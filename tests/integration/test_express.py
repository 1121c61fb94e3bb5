"""The answer that goes around the application is the one that the application gives."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import attrs
import pytest

from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import User
from pickguard.entrypoints.http import protocol
from tests.support.engines import PROGRAMS
from tests.support.http import SETTINGS, Answer, Api, serving
from tests.support.redis_servers import Server

ME = "/v1/users/me"
OWN = {"Date", "X-Request-ID"}
READS = 50
CALLS = 50
"""How many of Python's functions an authenticated read may call, from the socket and back."""


class Stubborn(MemoryAccounts):
    """A repository whose reads of sessions do what a test says."""

    failure: BaseException | None = None
    held: asyncio.Event | None = None
    reading: asyncio.Event
    ended = 0

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        self.reading.set()
        try:
            if self.held is not None:
                await self.held.wait()
            if self.failure is not None:
                raise self.failure
            return await super().read_session(user_id, digest)
        finally:
            self.ended += 1


@pytest.fixture
def accounts() -> Stubborn:
    stubborn = Stubborn()
    stubborn.reading = asyncio.Event()
    return stubborn


@pytest.fixture
async def api(accounts: Stubborn) -> AsyncGenerator[Api]:
    async with serving(accounts) as served:
        yield served


async def both_ways(api: Api, **given: Any) -> tuple[Answer, Answer]:
    """Ask by the shortest way, and by the ordinary one, on which a tag sends a request that no state has."""
    headers = given.pop("headers", {})
    short = await api.call("GET", ME, headers=headers, **given)
    return short, await api.call("GET", ME, headers={**headers, "If-None-Match": '"no such state"'}, **given)


def shown(answer: Answer) -> tuple[int, list[tuple[str, str]], Any]:
    content = answer.json()
    content.pop("instance", None)
    return answer.status, sorted((name, value) for name, value in answer.headers.items() if name not in OWN), content


async def test_both_ways_give_the_same_answer(api: Api) -> None:
    short, ordinary = await both_ways(api, token=await api.sign_up())
    assert short.status == 200
    assert shown(short) == shown(ordinary)
    assert {name for name, _ in short.headers.items()} == {name for name, _ in ordinary.headers.items()}


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic abc", "Bearer not-a-token", "Bearer \xe4", f"Bearer pg_{'A' * 72}"]
)
async def test_both_ways_refuse_alike(api: Api, authorization: str) -> None:
    short, ordinary = await both_ways(api, headers={"Authorization": authorization})
    assert short.status == 401
    assert shown(short) == shown(ordinary)


async def test_both_ways_refuse_a_revoked_token_alike(api: Api) -> None:
    token = await api.sign_up()
    await api.call("DELETE", "/v1/sessions/current", token=token)
    short, ordinary = await both_ways(api, token=token)
    assert short.outcome == (401, "invalid-token")
    assert shown(short) == shown(ordinary)


async def test_both_ways_say_alike_that_the_store_is_away(
    api: Api, accounts: Stubborn, caplog: pytest.LogCaptureFixture
) -> None:
    token = await api.sign_up()
    accounts.failure = StoreUnavailable("the store is away")
    short, ordinary = await both_ways(api, token=token)
    assert short.outcome == (503, "store-unavailable")
    assert shown(short) == shown(ordinary)
    assert "503 for 1 request: the store is away" in caplog.messages


async def test_both_ways_hide_alike_what_went_wrong(api: Api, accounts: Stubborn, caplog: pytest.LogCaptureFixture) -> None:
    token = await api.sign_up()
    accounts.failure = ZeroDivisionError("secret")
    short, ordinary = await both_ways(api, token=token)
    assert short.outcome == (500, "internal-error")
    assert shown(short) == shown(ordinary)
    for answer in (short, ordinary):
        assert f"request {answer.headers['X-Request-ID']} to GET {ME} failed" in caplog.messages


async def test_a_clients_request_id_is_kept_where_it_is_one(api: Api) -> None:
    token = await api.sign_up()
    known = "01234567-89ab-cdef-0123-456789abcdef"
    assert (await api.call("GET", ME, token=token, headers={"X-Request-ID": known})).headers["X-Request-ID"] == known
    other = await api.call("GET", ME, token=token, headers={"X-Request-ID": "mine"})
    assert other.headers["X-Request-ID"] != "mine"


@pytest.mark.parametrize("first", [b"", b'If-None-Match: "x"\r\n'])
@pytest.mark.parametrize("second", [b"", b'If-None-Match: "x"\r\n'])
async def test_requests_in_a_row_on_one_connection_are_answered_in_their_order(api: Api, first: bytes, second: bytes) -> None:
    tokens = [await api.sign_up(email=f"{name}@example.com") for name in ("ada", "grace")]
    async with api.wire() as wire:
        requests = [
            b"GET /v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n" % (token.encode(), header)
            for token, header in zip(tokens, (first, second), strict=True)
        ]
        await wire.send(b"".join(requests * 10))
        for _ in range(10):
            assert (await wire.answer()).json()["email"] == "ada@example.com"
            assert (await wire.answer()).json()["email"] == "grace@example.com"


@pytest.mark.parametrize("line", ["Connection: close", "Connection: Upgrade\r\nUpgrade: websocket", "Expect: 100-continue"])
async def test_what_is_unusual_goes_the_ordinary_way(api: Api, line: str) -> None:
    token = await api.sign_up()
    answer = await api.raw(f"GET {ME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{line}\r\n\r\n".encode())
    assert answer.json()["email"] == "ada@example.com"
    assert (answer.headers.get("Connection") == "close") == (line == "Connection: close")


@pytest.mark.parametrize("host", ["", "user@x", "x:port", "x y", "x/y"])
async def test_a_host_that_can_be_none_is_refused_on_either_way(api: Api, host: str) -> None:
    token = await api.sign_up()
    for more in ("", 'If-None-Match: "x"\r\n'):
        sent = f"GET {ME} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        assert (await api.raw(sent.encode())).outcome == (400, "malformed-request")


async def test_two_tokens_are_refused(api: Api) -> None:
    token = await api.sign_up()
    line = f"Authorization: Bearer {token}\r\n"
    answer = await api.raw(f"GET {ME} HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n".encode())
    assert answer.outcome == (400, "malformed-request")


async def test_a_read_that_takes_too_long_is_given_up_and_its_connection_goes_on(accounts: Stubborn) -> None:
    settings = attrs.evolve(SETTINGS, request_timeout=timedelta(milliseconds=50))
    async with serving(accounts, settings=settings) as api:
        token = (await sign_up_directly(api)) or ""
        accounts.held = asyncio.Event()
        async with api.wire() as wire:
            request = f"GET {ME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            await wire.send(request)
            assert (await wire.answer()).outcome == (503, "store-unavailable")
            accounts.held = None
            await wire.send(request)
            assert (await wire.answer()).status == 200


async def sign_up_directly(api: Api) -> str:
    """Sign up where requests have little time; on a busy machine that may take a few attempts."""
    while (await api.call("POST", "/v1/users", REGISTRATION)).status not in {201, 409}:
        pass
    while (answer := await api.call("POST", "/v1/sessions", LOG_IN)).status != 201:
        pass
    return str(answer.json()["access_token"])


SERVICE = ("/src/pickguard/", "/pickguard/", "/aiohttp/", "/redis/", "/uuid.py", "/asyncio/timeouts.py", "<attrs generated")

LOG_IN = {"email": "ada@example.com", "password": "correct horse battery staple"}
REGISTRATION = {**LOG_IN, "name": "Ada"}


async def test_a_client_that_leaves_does_no_harm(api: Api, accounts: Stubborn, caplog: pytest.LogCaptureFixture) -> None:
    token = await api.sign_up()
    accounts.held = asyncio.Event()
    accounts.reading.clear()
    async with api.wire() as wire:
        await wire.send(f"GET {ME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        await accounts.reading.wait()
    held, accounts.held = accounts.held, None
    held.set()
    assert (await api.me(token))["email"] == "ada@example.com"
    assert not caplog.messages


def read(token: str) -> bytes:
    return f"GET {ME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def test_a_service_that_stops_lets_a_read_under_way_end(accounts: Stubborn) -> None:
    held = asyncio.Event()
    async with AsyncExitStack() as wires:
        async with serving(accounts, shutdown_timeout=10) as api:
            token = await api.sign_up()
            accounts.held = held
            accounts.reading.clear()
            wire = await wires.enter_async_context(api.wire())
            await wire.send(read(token))
            await accounts.reading.wait()
            asyncio.get_running_loop().call_later(0.1, held.set)  # when the service has begun to stop
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("before", [0, 1])
async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(
    accounts: Stubborn, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    async with serving(accounts) as api:
        token = await api.sign_up()
        async with api.wire() as wire:
            for _ in range(before):
                await wire.send(read(token))
                assert (await wire.answer()).status == 200
            accounts.held = asyncio.Event()
            await wire.send(read(token))
            asyncio.get_running_loop().call_later(0.6, accounts.held.set)
            assert (await wire.answer()).status == 200
            assert await wire.rest() == b""


async def test_a_client_that_never_reads_is_cut_off(accounts: Stubborn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.5)
    async with serving(accounts, send_buffer=4096) as api:
        token = await api.sign_up()

        async def ask_for_ever() -> None:
            while True:  # one at a time, as the shortest way takes them
                wire.writer.write(read(token))
                await wire.writer.drain()
                await asyncio.sleep(0.001)

        async with api.wire(receive_buffer=4096) as wire, asyncio.timeout(30):
            with pytest.raises(ConnectionError):
                await ask_for_ever()


async def test_a_client_that_closes_its_side_gets_its_answer(api: Api, accounts: Stubborn) -> None:
    token = await api.sign_up()
    accounts.held = asyncio.Event()
    accounts.reading.clear()
    async with api.wire() as wire:
        await wire.send(read(token))
        wire.writer.write_eof()
        await accounts.reading.wait()
        accounts.held.set()
        assert (await wire.answer()).status == 200
        assert await wire.rest() == b""


async def test_what_comes_while_a_read_is_under_way_waits_for_its_turn(api: Api, accounts: Stubborn) -> None:
    token = await api.sign_up()
    accounts.held = asyncio.Event()
    async with api.wire() as wire:
        accounts.reading.clear()
        await wire.send(read(token))
        await accounts.reading.wait()
        for part in (b"GET /livez HTTP/1.1\r\nHo", b"st: x\r\n\r\n", read(token)):
            await wire.send(part)
            await asyncio.sleep(0.01)  # so that it comes by itself, if the machine is quick enough
        accounts.held.set()
        assert (await wire.answer()).json()["email"] == "ada@example.com"
        assert (await wire.answer()).json() == {"status": "ok"}
        assert (await wire.answer()).json()["email"] == "ada@example.com"


async def test_only_the_head_is_sent_to_who_asks_for_it(api: Api) -> None:
    answer = await api.raw(read(await api.sign_up()).replace(b"GET", b"HEAD"), "HEAD")
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 0


async def test_a_log_of_requests_has_these_as_well(accounts: Stubborn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pickguard.http")
    async with serving(accounts, settings=attrs.evolve(SETTINGS, access_log=True)) as api:
        await api.me(await api.sign_up())
        assert any(f'"route": "{ME}"' in message for message in caplog.messages)


def _is_service(file: str) -> bool:
    return any(part in file for part in SERVICE) and "/pickguard/testing/" not in file


@contextmanager
def counted_calls() -> Generator[Counter[str]]:
    """Count the functions that are called, by file and name, of all that the service is made of."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and _is_service(frame.f_code.co_filename):
            calls[f"{frame.f_code.co_filename.rpartition('/')[2]} {frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("engine", PROGRAMS)
async def test_an_authenticated_read_costs_one_command_and_few_calls(engine: str, tmp_path: Any) -> None:
    """It holds as well where many read at once; how long it takes is for a benchmark to say."""
    patience = timedelta(seconds=20)
    async with (
        Server(tmp_path, program=PROGRAMS[engine]) as server,
        open_client(server.url, connections=4, connect_timeout=patience, command_timeout=patience) as client,
        server.client() as direct,
        serving(RedisAccounts(client)) as api,
    ):
        tokens = [await api.sign_up(email=f"{number}@example.com") for number in range(3)]
        await asyncio.gather(*map(api.me, tokens))
        await direct.config_resetstat()
        async with api.wire() as wire:
            request = f"GET {ME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tokens[0]}\r\n\r\n".encode()
            await wire.send(request)  # the first of a connection has a little more to do
            size = len(await wire.reader.readuntil(b"}"))
            with counted_calls() as calls:
                for _ in range(READS):
                    wire.writer.write(request)
                    assert (await wire.reader.readexactly(size)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert calls.total() / READS <= CALLS, "\n".join(map(str, calls.most_common(100)))
        await asyncio.gather(*(api.me(token) for token in tokens * READS))
        stats = await direct.info("commandstats")
        used = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
        assert used.pop("hmget") == 1 + 4 * READS
        assert set(used) <= {"info", "config|resetstat", "config"}
