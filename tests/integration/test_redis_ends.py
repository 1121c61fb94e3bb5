"""Accounts that their server erases at a time: whatever happens, one is as before or as after, and gone at its end."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis.asyncio

from pickguard import OutcomeUnknown, StoreUnavailable
from pickguard.adapters.redis import scripts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import account_key, claim_key
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import Conflict
from pickguard.ports.accounts import Snapshot
from pickguard.testing.contracts.account_repository import added, stored, until_gone
from tests.support.accounts import an_account, ending, operation
from tests.support.engines import PROGRAMS
from tests.support.faults import Crash, FaultyClient, age_claims, broken_invariants, lost_addresses
from tests.support.redis_servers import Server
from tests.support.topologies import Replicated

DAY = timedelta(days=1)
SOON = timedelta(milliseconds=1300)
SECOND = timedelta(seconds=1)
on_all_engines = pytest.mark.parametrize("engine", PROGRAMS, indirect=True)

Change = Callable[[Account], Account]


def schedule(account: Account) -> Account:
    return attrs.evolve(ending(account, in_=DAY), sessions=())


def restore(account: Account) -> Account:
    return ending(account, in_=None)


async def before_the(change: Change, client: Any) -> Snapshot:
    """Return an account to which a change can be made."""
    await client.flushall()
    for script in (scripts.CLAIM, scripts.SAVE):  # so that a command is sent once
        await client.script_load(script.source)
    accounts = RedisAccounts(client)
    snapshot = await added(accounts, an_account(sessions=2))
    if change is restore:
        await accounts.save(snapshot, schedule(snapshot.account), operation=operation())
        snapshot = await stored(accounts, snapshot.account)
    await age_claims(client)
    return snapshot


async def life(client: Any, account: Account) -> int:
    return int(await client.pttl(account_key("pg", account.user.id)))


@on_all_engines
@pytest.mark.parametrize("change", [schedule, restore])
@pytest.mark.parametrize("fault", ["crash before", "crash after", "lose command", "lose answer"])
async def test_a_fault_at_any_command_leaves_the_account_as_before_or_as_after(
    direct: redis.asyncio.Redis, change: Change, fault: str
) -> None:
    before = await before_the(change, direct)
    counting = FaultyClient(direct, at=0, fault="")
    await RedisAccounts(counting).save(before, change(before.account), operation=operation())
    for at in range(1, counting.sent + 1):
        before = await before_the(change, direct)
        after = change(before.account)
        acknowledged = False
        try:
            await RedisAccounts(FaultyClient(direct, at=at, fault=fault)).save(before, after, operation=operation())
            acknowledged = True
        except (Crash, OutcomeUnknown):
            pass
        present = (await stored(RedisAccounts(direct), after)).account
        assert present in (before.account, after), f"command {at}"
        assert present == after or not acknowledged, f"command {at}"
        assert (await life(direct, after) == -1) == (present.user.deletes_at is None), f"command {at}"
        assert await broken_invariants(direct) == [], f"command {at}"


@on_all_engines
async def test_an_account_expires_at_its_end_to_the_millisecond(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    accounts = RedisAccounts(client)
    before = await added(accounts, an_account())
    ends = ending(before.account, in_=DAY)
    await accounts.save(before, ends, operation=operation())
    assert ends.user.deletes_at is not None
    seconds, microseconds = await direct.time()
    left = ends.user.deletes_at.timestamp() * 1000 - (seconds * 1000 + microseconds / 1000)
    assert abs(await life(direct, ends) - left) < 1000
    # Another write leaves it alone.
    snapshot = await stored(accounts, ends)
    await accounts.save(snapshot, attrs.evolve(ends, sessions=an_account(sessions=1).sessions), operation=operation())
    assert abs(await life(direct, ends) - left) < 2000


@on_all_engines
@pytest.mark.parametrize("in_", [timedelta(0), -DAY, timedelta(milliseconds=500)])
async def test_an_end_that_has_come_by_the_servers_clock_is_refused_and_nothing_happens(
    client: StoreClient, direct: redis.asyncio.Redis, in_: timedelta
) -> None:
    # As from a process whose clock is behind: the account would be gone at once, and not after its grace.
    accounts = RedisAccounts(client)
    before = await added(accounts, an_account(sessions=2))
    with pytest.raises(StoreUnavailable, match="clock"):
        await accounts.save(before, ending(before.account, in_=in_), operation=operation())
    assert await stored(accounts, before.account) == before
    assert await life(direct, before.account) == -1
    assert await broken_invariants(direct) == []


@on_all_engines
async def test_an_address_is_free_once_its_account_is_gone(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    accounts = RedisAccounts(client)
    before = await added(accounts, an_account())
    await age_claims(direct)  # of a minute at least, as a grace is
    await accounts.save(before, ending(before.account, in_=SOON), operation=operation())
    await until_gone(accounts, before.account)
    assert await direct.keys("pg:{*") == []
    assert await direct.exists(claim_key("pg", before.account.user.email.key))
    newcomers = [an_account() for _ in range(8)]
    results = await asyncio.gather(*(accounts.add(each, operation=operation()) for each in newcomers), return_exceptions=True)
    assert results.count(None) == 1
    assert await broken_invariants(direct) == []


@on_all_engines
async def test_of_an_end_and_a_restoration_close_to_it_one_comes_first(
    client: StoreClient, direct: redis.asyncio.Redis
) -> None:
    accounts = RedisAccounts(client)
    before = [await added(accounts, an_account(f"user{number}@example.com")) for number in range(12)]
    await age_claims(direct)
    for number, each in enumerate(before):
        ends = ending(each.account, in_=SOON + timedelta(milliseconds=10 * number))
        await accounts.save(each, ends, operation=operation())
    scheduled = [await stored(accounts, each.account) for each in before]
    await asyncio.sleep(SOON.total_seconds())  # not for luck: at whichever moment this ends, each has gone or stays

    async def try_to_restore(snapshot: Snapshot) -> bool:
        try:
            await accounts.save(snapshot, restore(snapshot.account), operation=operation())
        except Conflict:
            return False
        return True

    restored = await asyncio.gather(*map(try_to_restore, scheduled))
    await asyncio.sleep(0.5)
    for each, stays in zip(scheduled, restored, strict=True):
        found = await accounts.get(each.account.user.id)
        assert (found is not None) == stays
        assert found is None or found.account == restore(each.account)
    assert await broken_invariants(direct) == []
    assert await lost_addresses(direct, *(each.account.user.email.value for each in before)) == []


@on_all_engines
async def test_a_deletion_is_scheduled_also_where_memory_is_full(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    accounts = RedisAccounts(client)
    before = await added(accounts, an_account(sessions=2))
    await direct.config_set("maxmemory", 1)
    try:
        ends = schedule(before.account)
        await accounts.save(before, ends, operation=operation())
        assert (await stored(accounts, ends)).account == ends
        await accounts.save(await stored(accounts, ends), restore(ends), operation=operation())
        assert await life(direct, ends) == -1
    finally:
        await direct.config_set("maxmemory", 0)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_an_end_outlives_a_killed_server_and_comes_while_it_is_down(tmp_path: Path, program: str) -> None:
    async with Server(tmp_path / "server", {"appendfsync": "always"}, program=PROGRAMS[program]) as server:
        async with open_client(server.url, connections=4, connect_timeout=5 * SECOND, command_timeout=5 * SECOND) as client:
            accounts = RedisAccounts(client)
            later, sooner, kept = (an_account(f"{name}@example.com") for name in ("later", "sooner", "kept"))
            for account, end in ((later, DAY), (sooner, SOON), (kept, DAY)):
                await accounts.save(await added(accounts, account), ending(account, in_=end), operation=operation())
            await accounts.save(
                await stored(accounts, kept), restore((await stored(accounts, kept)).account), operation=operation()
            )
        server.kill()
        await asyncio.sleep(SOON.total_seconds())  # not for luck: the end of one comes meanwhile
        await server.restart()
        async with (
            open_client(server.url, connections=4, connect_timeout=5 * SECOND, command_timeout=5 * SECOND) as client,
            server.client() as direct,
        ):
            accounts = RedisAccounts(client)
            assert await accounts.get(sooner.user.id) is None
            assert await accounts.get(later.user.id) is not None
            assert 0 < await life(direct, later) <= DAY // timedelta(milliseconds=1)
            assert await life(direct, kept) == -1
            assert await broken_invariants(direct) == []
            await direct.bgrewriteaof()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_an_end_is_on_the_replicas_as_well(tmp_path: Path, program: str) -> None:
    async with Replicated(tmp_path, program=PROGRAMS[program]) as store, store.master.client() as direct:
        async with open_client(
            store.url, connections=4, connect_timeout=5 * SECOND, command_timeout=5 * SECOND, wait_replicas=1
        ) as client:
            accounts = RedisAccounts(client)
            before = await added(accounts, an_account())
            await accounts.save(before, ending(before.account, in_=DAY), operation=operation())
            left = await life(direct, before.account)
        replica = next(server for server in store.servers if server is not store.master)
        async with replica.client() as other:
            assert abs(await life(other, before.account) - left) < 1000
