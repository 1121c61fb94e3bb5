"""A Cluster whose masters are killed and freeze, and whose slots move, under load.

With one replica for each master and ``--wait-replicas 1``, a master that was replaced does not acknowledge writes before a
replica has come back to it. Its accounts can be read meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from redis.crc import key_slot

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.cluster import ClusterClient
from pickguard.adapters.redis.encoding import account_key, claim_key
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import StoreUnavailable
from tests.faults.workload import Load, connect, processes, until_it_works
from tests.support.accounts import an_account, operation, renamed
from tests.support.engines import PROGRAMS, on_every_engine, on_one_engine
from tests.support.invariants import Scan
from tests.support.redis_servers import Server
from tests.support.tally import Tally, engine_of
from tests.support.topologies import Cluster, ask, until_in_sync

SLOTS_MOVED = 5

LIMIT_SECONDS = 60
"""Of each test."""
CALL_SECONDS = 3.0
"""The contract's: whatever the store does, every call ends within it."""


@asynccontextmanager
async def busy(engine: str, directory: Path, tally: Tally, random: Random) -> AsyncGenerator[tuple[Cluster, Load]]:
    """Return a Cluster with people on it; in the end its masters are held against what was acknowledged."""
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Cluster(directory, program=PROGRAMS[engine]) as store,
        processes(store.url, 2, wait_replicas=1) as use_cases,
        AsyncExitStack() as stack,
    ):
        load = Load(use_cases, people=20, contested=3, tally=tally, random=random)
        async with load.running():
            await load.until_acknowledged(random.randrange(20, 300))
            yield store, load
        raw = [await stack.enter_async_context(master.client()) for master in await store.masters()]
        client = await stack.enter_async_context(connect(store.url))
        await load.audit(*raw, accounts=RedisAccounts(client))
        tally.engine = await engine_of(raw[0])


@on_every_engine
async def test_a_killed_master_is_replaced_and_nothing_that_was_acknowledged_is_lost(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "master of a Cluster killed"
    for number in range(rounds):
        async with busy(engine, tmp_path / str(number), tally, random) as (store, load):
            old = random.choice(await store.masters())
            new = await store.replica_of(old)
            old.kill()
            await store.until_ok()
            tally.count("fail-overs")
            await load.until_acknowledged(random.randrange(20, 100))
            await old.start()
            await until_in_sync(new, 1)
            await load.until_acknowledged(random.randrange(20, 300))
    tally.assert_clean()


@on_one_engine
@pytest.mark.parametrize("fault", [Server.kill, Server.freeze])
async def test_the_accounts_of_other_masters_go_on_while_one_is_down_and_its_own_come_back(
    engine: str, tmp_path: Path, fault: Callable[[Server], None]
) -> None:
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Cluster(tmp_path, program=PROGRAMS[engine]) as store,
        connect(store.url) as client,
    ):
        accounts = RedisAccounts(client)
        masters = await store.masters()
        own, *others = [await an_account_on(store, accounts, master) for master in masters]
        back = asyncio.Event()
        fault(masters[0])
        going_on = [asyncio.create_task(use_until(back, accounts, other)) for other in others]
        assert await until_it_works(lambda: use(accounts, own)) > 0
        back.set()
        assert min(await asyncio.gather(*going_on)) > 10


@on_one_engine
async def test_nobody_waits_for_silent_nodes_to_say_which_masters_there_are(engine: str, tmp_path: Path) -> None:
    patience = timedelta(seconds=4 * CALL_SECONDS)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Cluster(tmp_path, program=PROGRAMS[engine], node_timeout_ms=20_000) as store,  # all stay what they are
        connect(store.url, patience=patience) as client,
    ):
        assert isinstance(client, ClusterClient)
        accounts = RedisAccounts(client)
        *silent, awake = await store.masters()
        account = await an_account_on(store, accounts, awake)
        for each in silent:
            each.freeze()
        client._cluster.trust_layout(yes=False)  # as redis-py does whenever a command has failed
        await use(accounts, account)


@on_every_engine
async def test_nothing_is_refused_or_lost_while_slots_move(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "slots of a Cluster moved"
    for number in range(rounds):
        async with busy(engine, tmp_path / str(number), tally, random) as (store, load):
            await load.until_acknowledged(200)  # so that there are keys to move
            source, target = random.sample(await store.masters(), 2)
            for _ in range(SLOTS_MOVED):
                slot = random.choice(await slots_with_keys(source))
                await store.migrating(slot, source, target)
                await load.until_acknowledged(10)
                while await store.move_keys(slot, source, target, most=1):
                    await load.until_acknowledged(2)
                await store.migrated(slot, target)
                tally.count("slots moved")
    tally.assert_clean()


@on_one_engine
@pytest.mark.parametrize("wait_replicas", [0, 1])
async def test_every_answer_goes_to_its_question_while_a_slot_moves(engine: str, tmp_path: Path, wait_replicas: int) -> None:
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Cluster(tmp_path, program=PROGRAMS[engine]) as store,
        connect(store.url) as another,
        connect(store.url, wait_replicas=wait_replicas) as client,
    ):
        source, target, _ = await store.masters()
        moving, staying = [await an_account_on(store, RedisAccounts(another), master) for master in (source, target)]
        slot = key_slot(account_key("pg", moving.user.id).encode())
        await store.migrating(slot, source, target)
        assert await store.move_keys(slot, source, target) == 1
        await client.reach()
        accounts = RedisAccounts(client)
        for account in (moving, staying) * 2:
            # All at once, so that most of them need a new connection.
            for snapshot in await asyncio.gather(*(accounts.get(account.user.id) for _ in range(8))):
                assert snapshot is not None
                assert snapshot.account == account
        for account in (moving, staying):
            await use(accounts, account)


@on_one_engine
@pytest.mark.parametrize("wait_replicas", [0, 1])
async def test_a_claim_that_was_lost_with_its_master_lets_two_accounts_have_one_address_unless_replicas_were_waited_for(
    engine: str, tmp_path: Path, wait_replicas: int
) -> None:
    async with asyncio.timeout(LIMIT_SECONDS), Cluster(tmp_path, program=PROGRAMS[engine]) as store:
        async with connect(store.url, wait_replicas=wait_replicas) as client:
            accounts = RedisAccounts(client)
            first, second = an_account("shared@example.com"), an_account("shared@example.com")
            of_claim = await store.owner(claim_key("pg", first.user.email.key))
            while await store.owner(account_key("pg", first.user.id)) is of_claim:
                first = an_account("shared@example.com")
            replica = await cut_off(store, of_claim)
            acknowledged = await is_acknowledged(accounts.add(first, operation=operation()))
            of_claim.kill()
            replica.thaw()
            await store.until_ok()
            if wait_replicas:
                await of_claim.start()
                await until_in_sync(replica, 1)
            # Once the client has learned which masters there are now.
            await until_it_works(lambda: accounts.add(second, operation=operation()), StoreUnavailable)
        scan = await scan_of(store)
        if wait_replicas:
            assert not acknowledged
            assert scan.faults == []
        else:
            assert acknowledged
            assert any("has two accounts" in fault for fault in scan.faults)


async def scan_of(store: Cluster) -> Scan:
    async with AsyncExitStack() as stack:
        return await Scan.of(*[await stack.enter_async_context(master.client()) for master in await store.masters()])


async def an_account_on(store: Cluster, accounts: RedisAccounts, master: Server) -> Account:
    account = an_account(f"{master.port}@example.com")
    while await store.owner(account_key("pg", account.user.id)) is not master:
        account = an_account(f"{master.port}@example.com")
    await accounts.add(account, operation=operation())
    await until_in_sync(master, 1)
    return account


async def use(accounts: RedisAccounts, account: Account) -> None:
    async with asyncio.timeout(CALL_SECONDS):
        snapshot = await accounts.get(account.user.id)
        assert snapshot is not None
        await accounts.save(snapshot, renamed(snapshot.account, f"Ada {snapshot.version}"), operation=operation())


async def use_until(ended: asyncio.Event, accounts: RedisAccounts, account: Account) -> int:
    """Use an account again and again; return how often it was used."""
    times = 0
    while not ended.is_set():
        await use(accounts, account)
        times += 1
    return times


async def slots_with_keys(master: Server) -> list[int]:
    async with master.client() as client:
        return sorted({key_slot(key) async for key in client.scan_iter()})


async def cut_off(store: Cluster, master: Server) -> Server:
    """Cut a master off from its replica; return that, frozen."""
    replica = await store.replica_of(master)
    replica.freeze()
    await ask(master, "CLIENT", "KILL", "TYPE", "replica")
    return replica


async def is_acknowledged(write: Awaitable[None]) -> bool:
    try:
        await write
    except StoreUnavailable:
        return False
    return True
