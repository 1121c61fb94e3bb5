"""Sentinels replace a master that is killed, that freezes, and that was alone with what it acknowledged.

Replication is asynchronous, so a fail-over can lose what was acknowledged. What is shown here of each way to prevent that:

- Without any, a write is lost when its master dies with it, and when a master goes on that was replaced already.
- With ``min-replicas-to-write`` a master refuses that knows that it has no replicas. It does not know for up to
  ``min-replicas-max-lag`` and a second, nor at the moment when it comes back: for that long, it is as without.
- With ``--wait-replicas`` a write is acknowledged when replicas have it. It is lost only together with those, or where the
  Sentinels promote another one that is behind; with as many as there are replicas, not even then.

Reading is not protected by any of these: a master that was replaced and does not know it answers with what it has.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.commands import FAILURES
from pickguard.adapters.redis.sentinels import LOOK_AGAIN
from pickguard.domain.model.errors import StoreUnavailable, Unavailable
from pickguard.ports.accounts import Snapshot
from tests.faults.workload import COMMAND_TIMEOUT, Load, connect, processes, until_it_works
from tests.support.accounts import an_account, operation, renamed
from tests.support.engines import PROGRAMS, on_every_engine, on_one_engine
from tests.support.redis_servers import Server
from tests.support.tally import Tally, engine_of
from tests.support.topologies import Sentinels, ask, info, until, until_in_sync

GUARDED = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
UNGUARDED: Mapping[str, str] = {}

LIMIT_SECONDS = 60
"""Of each test."""


@asynccontextmanager
async def busy(engine: str, directory: Path, tally: Tally, random: Random) -> AsyncGenerator[tuple[Sentinels, Load]]:
    """Return Sentinels above servers with people on them; in the end the master is held against what was acknowledged."""
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(directory, program=PROGRAMS[engine], options=GUARDED) as store,
        processes(store.url, 2, wait_replicas=1) as use_cases,
    ):
        load = Load(use_cases, people=20, contested=3, tally=tally, random=random)
        async with load.running():
            await load.until_acknowledged(random.randrange(20, 300))
            yield store, load
        async with (await store.master()).client() as raw:
            await load.audit(raw)
            tally.engine = await engine_of(raw)


async def replicas_of(store: Sentinels, master: Server) -> list[Server]:
    return [each for each in store.servers if each is not master]


@on_every_engine
async def test_a_killed_master_is_replaced_and_nothing_that_was_acknowledged_is_lost(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    tally.fault = "master killed, replaced by Sentinels"
    for number in range(rounds):
        async with busy(engine, tmp_path / str(number), tally, random) as (store, load):
            old = await store.master()
            old.kill()
            await store.failover_done(old)
            tally.count("fail-overs")
            await load.until_acknowledged(random.randrange(100, 300))
    tally.assert_clean()


@on_every_engine
async def test_a_frozen_master_is_replaced_and_loses_nothing_when_it_comes_back(
    engine: str, tmp_path: Path, tally: Tally, random: Random, rounds: int
) -> None:
    """A Sentinel freezes with it, the one that the processes ask first."""
    tally.fault = "master frozen, replaced by Sentinels, thawed"
    for number in range(rounds):
        async with busy(engine, tmp_path / str(number), tally, random) as (store, load):
            old = await store.master()
            sentinel = store.sentinels[0]
            sentinel.freeze()
            old.freeze()
            new = await store.failover_done(old)
            tally.count("fail-overs")
            await load.until_acknowledged(random.randrange(50, 100))
            # Until the last command to the old master was given up: what is read there is not what is true.
            await asyncio.sleep(COMMAND_TIMEOUT.total_seconds())
            old.thaw()
            sentinel.thaw()
            await until_in_sync(new, 2)
            await load.until_acknowledged(random.randrange(50, 100))
    tally.assert_clean()


@on_one_engine
@pytest.mark.parametrize(
    ("options", "wait_replicas", "acknowledged"),
    [
        pytest.param(UNGUARDED, 0, True, id="nothing"),
        pytest.param(GUARDED, 0, True, id="min-replicas-to-write"),
        pytest.param(UNGUARDED, 1, False, id="wait-replicas"),
        pytest.param(GUARDED, 1, False, id="both"),
    ],
)
async def test_a_write_that_dies_with_its_master_was_not_acknowledged_if_replicas_were_waited_for(
    engine: str, tmp_path: Path, options: Mapping[str, str], wait_replicas: int, *, acknowledged: bool
) -> None:
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine], options=options) as store,
        connect(store.url, wait_replicas=wait_replicas) as client,
    ):
        accounts = RedisAccounts(client)
        before = await with_ada(accounts)
        old = await store.master()
        replicas = await replicas_of(store, old)
        for each in replicas:
            each.freeze()
        assert await is_acknowledged(accounts, before) is acknowledged
        old.kill()
        for each in replicas:  # killed as they are, so that what has reached their sockets is gone
            await each.restart()
        await store.failover_done(old)
        await until_readable(accounts, before)  # so the write was lost


@on_one_engine
async def test_a_master_without_replicas_refuses_to_write_if_told_to(engine: str, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine], options=GUARDED) as store,
        connect(store.url) as client,
    ):
        accounts = RedisAccounts(client)
        before = await with_ada(accounts)
        master = await store.master()
        for each in await replicas_of(store, master):
            each.freeze()
        await ask(master, "CLIENT", "KILL", "TYPE", "replica")

        async def knows() -> bool:  # which old versions work out once a second
            return bool((await info(master, "replication"))["min_slaves_good_slaves"] == 0)

        await until(knows, "the master knows that it has no replicas")
        with pytest.raises(StoreUnavailable):
            await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
        assert await accounts.get(before.account.user.id) == before


@on_one_engine
@pytest.mark.parametrize(
    ("options", "wait_replicas", "acknowledged"),
    [
        pytest.param(UNGUARDED, 0, True, id="nothing"),
        pytest.param(UNGUARDED, 1, False, id="wait-replicas"),
    ],
)
async def test_a_write_that_a_replaced_master_still_makes_was_not_acknowledged_if_replicas_were_waited_for(
    engine: str, tmp_path: Path, options: Mapping[str, str], wait_replicas: int, *, acknowledged: bool
) -> None:
    patience = timedelta(seconds=20)  # a process that has noticed nothing
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine], options=options) as store,
        connect(store.url, wait_replicas=wait_replicas, patience=patience) as client,
        connect(store.url) as another,
    ):
        accounts = RedisAccounts(client)
        before = await with_ada(accounts)
        old = await store.master()
        old.freeze()
        write = asyncio.create_task(is_acknowledged(accounts, before))  # sent before anybody could know
        await store.failover_done(old)
        assert not write.done()
        old.thaw()
        assert await write is acknowledged
        await until_readable(RedisAccounts(another), before)


@on_one_engine
async def test_a_process_that_was_idle_asks_for_the_master_before_it_reads(engine: str, tmp_path: Path) -> None:
    """With a connection to the old master it would take the token of a user who is gone."""
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine]) as store,
        connect(store.url) as idle,
        connect(store.url) as another,
    ):
        before = await with_ada(RedisAccounts(idle))
        user_id, session = before.account.user.id, before.account.sessions[0]
        assert await RedisAccounts(idle).read_session(user_id, session.digest) is not None
        old = await store.master()
        old.freeze()
        await store.failover_done(old)  # takes longer than the sentinels' word counts
        await until_readable(RedisAccounts(another), before)
        await RedisAccounts(another).remove(before, operation=operation())
        old.thaw()
        assert await RedisAccounts(idle).read_session(user_id, session.digest) is None


@on_one_engine
async def test_a_connection_to_a_master_that_was_replaced_is_used_no_more(engine: str, tmp_path: Path) -> None:
    patience = timedelta(seconds=20)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine]) as store,
        connect(store.url, patience=patience) as client,
    ):
        accounts = RedisAccounts(client)
        before = await with_ada(accounts)
        old = await store.master()
        old.freeze()
        reading = asyncio.create_task(accounts.get(before.account.user.id))
        await store.failover_done(old)
        assert await is_acknowledged(accounts, before)  # by way of another connection, to the new master
        old.thaw()
        await reading
        snapshot = await accounts.get(before.account.user.id)
        assert snapshot is not None
        assert snapshot.account.user.name.value == "Countess"


@on_one_engine
@pytest.mark.parametrize("silence", ["kill", "freeze"])
async def test_a_service_goes_on_while_no_sentinel_answers(engine: str, silence: str, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine]) as store,
        connect(store.url, patience=timedelta(seconds=4)) as client,
    ):
        accounts = RedisAccounts(client)
        before = await with_ada(accounts)
        master = await store.master()
        for each in store.sentinels:
            getattr(each, silence)()
        await ask(master, "CLIENT", "KILL", "TYPE", "normal")
        found: list[object] = []
        for _ in range(3):  # more connections than there were, and again when the sentinels' word is old
            found = list(
                await asyncio.gather(*(accounts.get(before.account.user.id) for _ in range(32)), return_exceptions=True)
            )
            await asyncio.sleep(LOOK_AGAIN.total_seconds() / 2)
        assert found == [before] * 32
        await asyncio.sleep(LOOK_AGAIN.total_seconds())
        async with asyncio.timeout(2):  # nobody waits for those who did not answer the last time
            assert await accounts.get(before.account.user.id) == before


@on_one_engine
async def test_no_sentinel_is_forgotten_when_many_ask_at_once(engine: str, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        Sentinels(tmp_path, program=PROGRAMS[engine]) as store,
        connect(store.url) as client,
    ):
        first, *others = store.sentinels
        first.kill()
        await asyncio.gather(*(client.execute_command("PING") for _ in range(16)))
        await first.start()
        for each in others:
            each.kill()
        await ask(await store.master(), "CLIENT", "KILL", "TYPE", "normal")
        # A Sentinel that has just started does not know at once how the master is.
        await until_it_works(lambda: client.execute_command("PING"), FAILURES)


async def with_ada(accounts: RedisAccounts) -> Snapshot:
    account = an_account(sessions=1)
    await accounts.add(account, operation=operation())
    snapshot = await accounts.get(account.user.id)
    assert snapshot is not None
    return snapshot


async def is_acknowledged(accounts: RedisAccounts, before: Snapshot) -> bool:
    try:
        await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
    except Unavailable:
        return False
    return True


async def until_readable(accounts: RedisAccounts, before: Snapshot) -> None:
    async def reads() -> None:
        assert await accounts.get(before.account.user.id) == before

    await until_it_works(reads, StoreUnavailable)
