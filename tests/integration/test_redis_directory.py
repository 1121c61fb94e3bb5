"""Going through all accounts on real servers."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
import redis.asyncio

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.directory import MOST_SCANS, RedisDirectory
from pickguard.adapters.redis.encoding import account_key
from pickguard.domain.model.errors import InvalidCursor, StoreUnavailable
from pickguard.testing.contracts.account_directory import AccountDirectoryContract, listed, many, pages
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server

SECOND = timedelta(seconds=1)


def opened(url: str) -> StoreClient:
    return open_client(url, connections=16, connect_timeout=5 * SECOND, command_timeout=5 * SECOND)


@pytest.fixture
async def client(engine: Engine) -> AsyncGenerator[StoreClient]:
    async with opened(engine.url) as client:
        yield client


@pytest.fixture
def accounts(client: StoreClient) -> RedisAccounts:
    return RedisAccounts(client)


@pytest.fixture
def directory(client: StoreClient) -> RedisDirectory:
    return RedisDirectory(client)


@pytest.fixture
async def direct(engine: Engine) -> AsyncGenerator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as direct:
        yield direct


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestRedisDirectory(AccountDirectoryContract):
    @pytest.fixture
    def accounts(self, client: StoreClient) -> RedisAccounts:
        return RedisAccounts(client)

    @pytest.fixture
    def directory(self, client: StoreClient) -> RedisDirectory:
        return RedisDirectory(client)


one_engine = pytest.mark.parametrize("engine", [next(iter(PROGRAMS))], indirect=True)


@one_engine
async def test_what_cannot_be_read_is_named_and_hides_nothing_else(
    accounts: RedisAccounts, directory: RedisDirectory, direct: redis.asyncio.Redis
) -> None:
    damaged, halved, typed, session, credential, activity, whole = await many(accounts, 7, sessions=1)
    await direct.hset(account_key("pg", credential.user.id), "c", b"\x01")
    await direct.hset(account_key("pg", activity.user.id), "a", b"\x01\x09")
    await direct.hset(account_key("pg", damaged.user.id), "u", b"\xff not a user")
    await direct.hdel(account_key("pg", halved.user.id), "u")
    await direct.set(account_key("pg", typed.user.id), "no hash")
    await direct.hset(account_key("pg", session.user.id), b"s:" + session.sessions[0].digest, b"\x01")
    found = [page async for page in pages(directory)]
    assert {entry.user.id for page in found for entry in page.entries} == {whole.user.id}
    assert {user_id for page in found for user_id in page.unreadable} == {
        each.user.id for each in (damaged, halved, typed, session, credential, activity)
    }
    # The sessions of those who are not wanted are not looked at.
    found = [page async for page in pages(directory, wanted=lambda user: user.id == whole.user.id)]
    assert {user_id for page in found for user_id in page.unreadable} == {damaged.user.id, typed.user.id}


@one_engine
async def test_other_keys_are_none_of_ours(
    accounts: RedisAccounts, directory: RedisDirectory, direct: redis.asyncio.Redis
) -> None:
    (account,) = await many(accounts, 1)
    for key in (
        "pg:{no-id}",
        "pg:{}",
        "other:{019b7d1f-2a0e-7000-8000-000000000001}",
        "pg:{019B7D1F-2A0E-7000-8000-000000000001}",
    ):
        await direct.hset(key, "u", "x")
    assert [entry.user.id for entry in await listed(directory)] == [account.user.id]
    (page,) = [page async for page in pages(directory, limit=1000)]
    assert page.unreadable == ()


@one_engine
async def test_a_prefix_is_taken_as_it_is(client: StoreClient) -> None:
    odd, plain = RedisAccounts(client, prefix="p*[g]?"), RedisAccounts(client, prefix="pxg")
    (account,) = await many(odd, 1)
    await many(plain, 1)
    assert [entry.user.id for entry in await listed(RedisDirectory(client, prefix="p*[g]?"))] == [account.user.id]


@one_engine
async def test_a_page_takes_a_bounded_time_however_little_there_is_to_show(
    client: StoreClient, direct: redis.asyncio.Redis
) -> None:
    await direct.mset({f"other:{number}": "" for number in range(20_000)})
    directory = RedisDirectory(client)
    first = await directory.page(after=None, limit=10)
    assert (first.entries, first.next is not None) == ((), True)
    stats = await direct.info("commandstats")
    scans = stats["cmdstat_scan"]["calls"]
    await directory.page(after=first.next, limit=10)
    stats = await direct.info("commandstats")
    assert stats["cmdstat_scan"]["calls"] - scans == MOST_SCANS
    assert await listed(directory) == []


@one_engine
async def test_a_cursor_that_names_no_server_is_refused(accounts: RedisAccounts, directory: RedisDirectory) -> None:
    await many(accounts, 300)
    following = (await directory.page(after=None, limit=1)).next
    assert following is not None
    run = following.partition("-")[0]
    for place in (1, 9999):
        with pytest.raises(InvalidCursor):
            await directory.page(after=f"{run}-{place}-0", limit=1)


async def test_a_restart_ends_the_listing(tmp_path: Path) -> None:
    async with Server(tmp_path / "server") as server, opened(server.url) as client:
        directory = RedisDirectory(client)
        await many(RedisAccounts(client), 300)
        first = await directory.page(after=None, limit=1)
        assert first.next is not None
        await directory.page(after=first.next, limit=1)
        await server.restart()
        with pytest.raises(InvalidCursor):
            await directory.page(after=first.next, limit=1)
        assert len(await listed(directory)) == 300
        server.kill()
        with pytest.raises(StoreUnavailable):
            await directory.page(after=None, limit=1)
