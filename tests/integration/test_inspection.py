"""The look at every key: it finds each fault and nothing else, beside a service at work, and its repairs break nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import redis.asyncio
from fakeredis import FakeAsyncRedis, FakeServer
from hypothesis import given
from hypothesis import strategies as st

from pickguard import AccountsError, StoreUnavailable
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.claims import LEASE
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import (
    account_key,
    claim_key,
    encode_account,
    encode_claim,
    limit_key,
    tries_key,
)
from pickguard.adapters.redis.inspection import LISTED, inspect
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.adapters.redis.location import Location
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.limits import Limit
from pickguard.ports.checkup import Inspection, Kind, Progress
from pickguard.testing.contracts.account_repository import added, stored
from pickguard.testing.contracts.rate_limiter import ADDRESS, HERE, attempt
from pickguard.testing.contracts.receipts import FINGERPRINT, a_request
from tests.support import claim_model as model
from tests.support.accounts import NOW, an_account, at_address, ending, operation, renamed
from tests.support.engines import PROGRAMS
from tests.support.faults import age_claims, broken_invariants, lost_addresses
from tests.support.redis_servers import Server
from tests.support.strategies import examples
from tests.support.topologies import Cluster

COUNTED = (Limit.SOURCE, Limit.REGISTRATIONS, Limit.MAILS)
NO_PAUSE = timedelta(0)
SECOND = timedelta(seconds=1)
OLD = 1000 * (LEASE.seconds + 60)
"""Milliseconds past which nobody doubts that a claim is past the lease."""


class Store(StoreClient):
    """A store on any client of redis-py, in which something may happen before the n-th command, from 1 on."""

    def __init__(
        self, client: redis.asyncio.Redis, *, at: int = 0, happens: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self.location = Location.parse("redis://stand-in")
        self.wait_replicas = 0
        self.sent = 0
        self._client = client
        self._at = at
        self._happens = happens

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.sent += 1
        if self.sent == self._at and self._happens is not None:
            await self._happens()
        return await self._client.execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return [await self.execute_command(*each) for each in commands]  # one after the other, so that all can be told apart

    async def reach(self) -> None:
        await self.execute_command("PING")

    async def masters(self) -> Sequence[Node]:
        return (Node(name="stand-in", client=self),)

    async def replicas(self) -> Sequence[Node]:
        return ()

    async def aclose(self) -> None:
        """Nothing of its own is open."""


async def look(client: StoreClient, *, repair: bool = False) -> Inspection:
    return await inspect(client, prefix="pg", repair=repair, pause=NO_PAUSE)


def told(inspection: Inspection) -> Counter[tuple[Kind, str]]:
    assert len(inspection.irregularities) == sum(inspection.found.values())
    return Counter((each.kind, each.key) for each in inspection.irregularities)


async def now(client: Any) -> int:
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def put_claim(client: Any, email: str, account: Account, *, age: int) -> str:
    key = claim_key("pg", email)
    await client.set(key, encode_claim(account.user.id, operation(), await now(client) - age))
    return key


async def put_account(client: Any, account: Account) -> str:
    """Store an account as it is after its first save, without a claim."""
    key = account_key("pg", account.user.id)
    await client.hset(
        key,
        mapping=cast(
            "dict[str | bytes, bytes | float | int | str]", {b"v": b"1", b"o": operation(), **encode_account(account)}
        ),
    )
    return key


def claim_of(account: Account) -> str:
    return claim_key("pg", account.user.email.key)


def key_of(account: Account) -> str:
    return account_key("pg", account.user.id)


# Every fault, one by one, on real servers.

on_all_engines = pytest.mark.parametrize("engine", PROGRAMS, indirect=True)


@on_all_engines
async def test_nothing_is_found_in_a_store_that_is_whole(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    accounts, receipts = RedisAccounts(client), RedisReceipts(client)
    for number in range(30):
        await accounts.add(an_account(f"user{number}@example.com", sessions=number % 3), operation=operation())
    changed = await added(accounts, an_account("ada@example.com"))
    await accounts.save(changed, at_address(changed.account, "Info@Bücher.example.com"), operation=operation())
    await accounts.check_writable()
    await direct.set("pg:probe", b"", px=1000)
    await receipts.open(a_request(), FINGERPRINT, NOW)
    limiter = RedisRateLimiter(client)
    await limiter.fail(attempt(), NOW)
    await limiter.count(Limit.REGISTRATIONS, HERE, NOW)
    await limiter.count(Limit.MAILS, ADDRESS, NOW)
    await direct.set("another:program", "1")
    await direct.set("pgx", "1")
    inspection = await look(client, repair=True)
    # The probe of check_writable goes by itself, so it is there or not.
    assert attrs.evolve(inspection, probes=0) == Inspection(accounts=31, sessions=30, claims=31, receipts=1, limits=4, others=2)
    assert inspection.probes >= 1


@on_all_engines
async def test_each_fault_is_told_and_what_can_be_mended_is_mended(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    accounts = RedisAccounts(client)
    whole, unclaimed, robbed, _ = [
        (await added(accounts, an_account(f"{name}@example.com", sessions=1))).account
        for name in ("whole", "unclaimed", "robbed", "pending")
    ]
    nobody = an_account("nobody@example.com")
    await direct.delete(claim_of(unclaimed))
    await put_claim(direct, "robbed@example.com", nobody, age=OLD)
    await put_claim(direct, "pending@example.com", nobody, age=0)
    first, second = an_account("shared@example.com"), an_account("shared@example.com")
    for account in (first, second):
        await put_account(direct, account)
    await put_claim(direct, "shared@example.com", first, age=OLD)
    orphan = await put_claim(direct, "orphan@example.com", nobody, age=OLD)
    left = await put_claim(direct, "left@example.com", whole, age=OLD)
    young = await put_claim(direct, "young@example.com", nobody, age=0)
    await direct.set(claim_key("pg", "garbage@example.com"), "no claim at all")
    await direct.hset(claim_key("pg", "hash@example.com"), "a", "b")
    half, undecodable, strange, forgetful = (an_account(f"{name}@example.com") for name in ("half", "bad", "odd", "old"))
    for account in (half, undecodable, strange, forgetful):
        await accounts.add(account, operation=operation())
    await direct.hdel(key_of(half), "c")
    await direct.hset(key_of(undecodable), "u", "[]")
    await direct.hset(key_of(strange), "z", "1")
    await direct.hset(key_of(forgetful), "v", "7")
    listed = an_account("list@example.com")
    await direct.rpush(key_of(listed), "no hash")
    await direct.set("pg:unheard\x1b[31m of", "1")
    await direct.set("pg:{not-an-id}", "1")
    await direct.set("pg:request:abc", "no expiry")
    # One that is to go and would not, one the other way round, and one as it should be.
    lasting_account, vanishing, deleted = (an_account(f"{name}@example.com") for name in ("lasting", "vanishing", "deleted"))
    for account, end in ((lasting_account, timedelta(days=1)), (vanishing, None), (deleted, timedelta(days=1))):
        await accounts.save(await added(accounts, account), ending(account, in_=end), operation=operation())
    await direct.persist(key_of(lasting_account))
    await direct.pexpire(key_of(vanishing), 60_000)
    await direct.set("pg:probe:7", "no expiry")
    lasting_limits = [tries_key("pg", ADDRESS), *(limit_key("pg", limit, HERE) for limit in COUNTED)]
    unheard_limits = [
        limit_key("pg", Limit.RUN, HERE),
        "pg:limit",
        "pg:limit:mails",
        "pg:limit:mails:short",
        "pg:tries",
        "pg:tries:short",
    ]
    for key in (*lasting_limits, *unheard_limits):
        await direct.set(key, "no expiry")

    lasting = {
        (Kind.PENDING_CLAIM, claim_key("pg", "pending@example.com")),
        (Kind.PENDING_CLAIM, young),
        (Kind.SHARED_ADDRESS, key_of(second)),
        (Kind.UNREADABLE_CLAIM, claim_key("pg", "garbage@example.com")),
        (Kind.UNREADABLE_CLAIM, claim_key("pg", "hash@example.com")),
        *((Kind.UNREADABLE_ACCOUNT, key_of(account)) for account in (half, undecodable, strange, forgetful, listed)),
        (Kind.UNKNOWN_KEY, "pg:unheard\\x1b[31m of"),
        (Kind.UNKNOWN_KEY, "pg:{not-an-id}"),
        (Kind.LASTING_KEY, "pg:request:abc"),
        (Kind.LASTING_KEY, "pg:probe:7"),
        *((Kind.LASTING_KEY, key) for key in lasting_limits),
        *((Kind.UNKNOWN_KEY, key) for key in unheard_limits),
        # Their accounts cannot be read, so nobody knows whose these claims are. They are young.
        (Kind.PENDING_CLAIM, claim_of(undecodable)),
    }
    mendable = {
        (Kind.MISSING_CLAIM, key_of(unclaimed)),
        (Kind.FOREIGN_CLAIM, key_of(robbed)),
        (Kind.ORPHAN_CLAIM, orphan),
        (Kind.ORPHAN_CLAIM, left),
        (Kind.LASTING_ACCOUNT, key_of(lasting_account)),
        (Kind.VANISHING_ACCOUNT, key_of(vanishing)),
    }
    assert told(await look(client)) == Counter(lasting | mendable)
    repaired = await look(client, repair=True)
    assert told(repaired) == Counter(lasting | mendable)
    assert {(each.kind, each.key) for each in repaired.irregularities if each.repaired} == mendable
    assert sum(repaired.repaired.values()) == len(mendable)
    assert {kind for kind, _ in mendable} == {kind for kind in Kind if kind.is_repairable}
    assert told(await look(client)) == Counter(lasting)
    for account in (whole, unclaimed, robbed):
        found = await accounts.find(account.user.email)
        assert found is not None
        assert found.account == account
    assert not await direct.exists(orphan, left)
    assert 86_000_000 < await direct.pttl(key_of(lasting_account)) <= 86_400_000
    assert await direct.pttl(key_of(vanishing)) == -1
    assert (await look(client)).deleted == 2


@on_all_engines
async def test_two_accounts_that_both_lack_the_claim_are_told_and_none_is_chosen(
    client: StoreClient, direct: redis.asyncio.Redis
) -> None:
    first, second = an_account("shared@example.com"), an_account("shared@example.com")
    for account in (first, second):
        await put_account(direct, account)
    inspection = await look(client, repair=True)
    assert told(inspection) == Counter((Kind.SHARED_ADDRESS, key_of(account)) for account in (first, second))
    assert not await direct.exists(claim_of(first))
    assert str(first.user.id) in next(each.detail for each in inspection.irregularities if each.key == key_of(second))


@on_all_engines
async def test_beyond_its_limit_it_mends_as_much_as_it_can_be_sure_of_and_says_so(
    client: StoreClient, direct: redis.asyncio.Redis
) -> None:
    lonely = [an_account(f"user{number}@example.com") for number in range(40)]
    shared = [an_account(f"shared{number // 2}@example.com") for number in range(20)]
    for account in (*lonely, *shared):
        await put_account(direct, account)
    nobody = an_account()
    for number in range(10):
        await put_claim(direct, f"orphan{number}@example.com", nobody, age=OLD)
    runs = 0
    total: Counter[Kind] = Counter()
    while True:
        inspection = await inspect(client, prefix="pg", repair=True, pause=NO_PAUSE, suspects=15)
        total.update(inspection.repaired)
        runs += 1
        shared_left = inspection.found.get(Kind.SHARED_ADDRESS, 0)
        if not inspection.postponed:
            break
        assert runs < 100
    assert runs > 1
    assert shared_left == len(shared)
    assert total == {Kind.MISSING_CLAIM: len(lonely), Kind.ORPHAN_CLAIM: 10}
    assert not await direct.exists(*(claim_of(account) for account in shared))


@on_all_engines
async def test_only_the_first_of_many_are_told_one_by_one(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    await direct.mset({f"pg:strange:{number}": "1" for number in range(LISTED + 20)})
    inspection = await look(client)
    assert inspection.found == {Kind.UNKNOWN_KEY: LISTED + 20}
    assert len(inspection.irregularities) == LISTED


@on_all_engines
async def test_it_tells_how_far_it_is(client: StoreClient, direct: redis.asyncio.Redis) -> None:
    await direct.mset({f"other:{number}": "1" for number in range(3000)})
    steps: list[Progress] = []
    await inspect(client, prefix="pg", progress=steps.append, pause=NO_PAUSE)
    assert len(steps) > 2
    assert [step.seen for step in steps] == sorted(step.seen for step in steps)  # a page may be empty
    assert steps[-1].seen >= 3000
    assert all(step.seen <= step.total for step in steps)


async def test_a_server_that_was_restarted_meanwhile_was_not_seen_whole(tmp_path: Path) -> None:
    async with Server(tmp_path / "server") as server:
        async with server.client() as direct:
            await put_account(direct, an_account())
            store = Store(direct)
            await look(store)
        refused = 0
        for at in range(1, store.sent + 1):
            async with server.client() as direct:
                try:
                    inspection = await look(Store(direct, at=at, happens=server.restart))
                except StoreUnavailable:
                    refused += 1
                else:  # after the last key was seen nothing can be missed any more
                    assert inspection.found == {Kind.MISSING_CLAIM: 1}
        assert refused >= 4


async def test_the_keys_of_a_cluster_are_seen_and_mended_wherever_they_are(tmp_path: Path) -> None:
    async with (
        Cluster(tmp_path) as store,
        open_client(store.url, connections=16, connect_timeout=5 * SECOND, command_timeout=5 * SECOND) as client,
    ):
        accounts = RedisAccounts(client)
        everybody = [an_account(f"user{number}@example.com", sessions=1) for number in range(60)]
        for account in everybody:
            await accounts.add(account, operation=operation())
        assert await look(client, repair=True) == Inspection(accounts=60, sessions=60, claims=60)
        for account in everybody[::2]:
            await client.execute_command("DEL", claim_of(account))
        nobody = an_account()
        claim = encode_claim(nobody.user.id, operation(), int(time.time() * 1000) - OLD)
        for number in range(10):
            await client.execute_command("SET", claim_key("pg", f"orphan{number}@example.com"), claim)
        assert (await look(client)).found == {Kind.MISSING_CLAIM: 30, Kind.ORPHAN_CLAIM: 10}
        assert (await look(client, repair=True)).repaired == {Kind.MISSING_CLAIM: 30, Kind.ORPHAN_CLAIM: 10}
        assert await look(client) == Inspection(accounts=60, sessions=60, claims=60)


# Any state that the keys can be in.

ADDRESSES = ("a@example.com", "b@example.com", "c@example.com")
STRANGERS = ("somebody", "who", "is", "gone")


@attrs.frozen(kw_only=True)
class Keys:
    """Accounts by number, each with its address, and claims by address: whose (99: of nobody who is there), and how old."""

    accounts: Mapping[int, str]
    claims: Mapping[str, tuple[int, bool] | None]


states = st.builds(
    Keys,
    accounts=st.dictionaries(st.integers(0, 3), st.sampled_from(ADDRESSES)),
    claims=st.dictionaries(
        st.sampled_from(ADDRESSES), st.none() | st.tuples(st.sampled_from([0, 1, 2, 3, 99]), st.booleans()), max_size=3
    ),
)


def expected(keys: Keys, names: Mapping[int, str]) -> Counter[tuple[Kind, str]]:
    """What an inspection should find, by looking at everything at once. A claim of None is one that cannot be read."""
    found: Counter[tuple[Kind, str]] = Counter()
    for address in ADDRESSES:
        key = claim_key("pg", address)
        owners = {number for number, at in keys.accounts.items() if at == address}
        there, claim = address in keys.claims, keys.claims.get(address)
        holder, old = claim or (None, False)
        lacking = owners - {holder}
        if there and claim is None:
            found[Kind.UNREADABLE_CLAIM, key] += 1
        for number in lacking:
            account = account_key("pg", names[number])  # type: ignore[arg-type]  # only its text counts
            if len(lacking) > 1 or holder in owners:
                found[Kind.SHARED_ADDRESS, account] += 1
            elif not there:
                found[Kind.MISSING_CLAIM, account] += 1
            elif claim is not None and old:
                found[Kind.FOREIGN_CLAIM, account] += 1
            elif claim is not None:
                found[Kind.PENDING_CLAIM, key] += 1
        if claim is not None and not owners:
            found[Kind.ORPHAN_CLAIM if old else Kind.PENDING_CLAIM, key] += 1
    return found


@given(keys=states)
@examples(150)
def test_in_any_state_all_faults_are_found_and_repairs_leave_only_what_takes_a_guess(keys: Keys) -> None:
    asyncio.run(_check(keys))


async def _check(keys: Keys) -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2, server=FakeServer()) as direct:
        people = {number: an_account(keys.accounts.get(number, "gone@example.com")) for number in (0, 1, 2, 3, 99)}
        names = {number: str(account.user.id) for number, account in people.items()}
        for number in keys.accounts:
            await put_account(direct, people[number])
        for address, claim in keys.claims.items():
            if claim is None:
                await direct.set(claim_key("pg", address), "garbage")
            else:
                await put_claim(direct, address, people[claim[0]], age=OLD if claim[1] else 0)
        before = {key: await direct.hgetall(key) for key in await direct.keys("pg:{*")}
        store = Store(direct)
        should = expected(keys, names)
        assert told(await look(store)) == should
        repaired = await look(store, repair=True)
        assert told(repaired) == should
        mended = {(each.kind, each.key) for each in repaired.irregularities if each.repaired}
        assert mended == {(kind, key) for kind, key in should if kind.is_repairable}
        assert told(await look(store, repair=True)) == Counter(each for each in should.elements() if each not in mended)
        assert {key: await direct.hgetall(key) for key in await direct.keys("pg:{*")} == before


# Beside a service: something happens between any two of its commands.


@attrs.frozen
class Scene:
    """A store to begin with, and what happens in it meanwhile."""

    direct: Any
    accounts: RedisAccounts
    ada: Account
    grace: Account

    async def change(self) -> None:
        before = await stored(self.accounts, self.ada)
        await self.accounts.save(before, at_address(before.account, "new@example.com"), operation=operation())

    async def change_and_back(self) -> None:
        await self.change()
        before = await stored(self.accounts, self.ada)
        await self.accounts.save(before, at_address(before.account, "ada@example.com"), operation=operation())

    async def rename(self) -> None:
        before = await stored(self.accounts, self.ada)
        await self.accounts.save(before, renamed(before.account, "Countess"), operation=operation())

    async def remove(self) -> None:
        await self.accounts.remove(await stored(self.accounts, self.ada), operation=operation())

    async def register(self) -> None:
        await self.accounts.add(an_account("new@example.com"), operation=operation())

    async def remove_and_register_again(self) -> None:
        await self.remove()
        await self.accounts.add(an_account("ada@example.com"), operation=operation())

    async def repair(self) -> None:
        await look(Store(self.direct), repair=True)


HAPPENINGS: Mapping[str, Callable[[Scene], Awaitable[None]]] = {
    "nothing but another doctor": Scene.repair,
    "a change of address": Scene.change,
    "a change and back": Scene.change_and_back,
    "a change of name": Scene.rename,
    "a removal": Scene.remove,
    "a registration": Scene.register,
    "a removal and a registration": Scene.remove_and_register_again,
}


@asynccontextmanager
async def scene() -> AsyncGenerator[Scene]:
    async with FakeAsyncRedis(version=(7,), protocol=2, server=FakeServer()) as direct:
        accounts = RedisAccounts(direct)
        ada = (await added(accounts, an_account("ada@example.com"))).account
        grace = (await added(accounts, an_account("grace@example.com"))).account
        await age_claims(direct)
        yield Scene(direct, accounts, ada, grace)


@pytest.mark.parametrize("happening", HAPPENINGS)
async def test_whatever_happens_meanwhile_no_fault_is_seen_where_there_is_none(happening: str) -> None:
    at = 0
    while True:
        at += 1
        async with scene() as stage:
            store = Store(stage.direct, at=at, happens=partial(HAPPENINGS[happening], stage))
            inspection = await look(store, repair=True)
            assert inspection.found == {}, f"at command {at}"
            assert await broken_invariants(stage.direct) == [], f"at command {at}"
            if store.sent < at:
                break
    assert at > 10


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("lost", ["the claim", "the claim to an orphan"])
async def test_whatever_happens_to_an_account_meanwhile_its_repair_breaks_nothing(happening: str, lost: str) -> None:
    at = 0
    while True:
        at += 1
        async with scene() as stage:
            if lost == "the claim":
                await stage.direct.delete(claim_of(stage.ada))
            else:
                await put_claim(stage.direct, "ada@example.com", an_account(), age=OLD)
            store = Store(stage.direct, at=at, happens=partial(HAPPENINGS[happening], stage))
            await look(store, repair=True)
            assert await broken_invariants(stage.direct) == [], f"at command {at}"
            await age_claims(stage.direct)
            assert await lost_addresses(stage.direct, "ada@example.com", "new@example.com") == []
            if store.sent < at:
                break
    assert at > 15


@pytest.mark.parametrize("program", PROGRAMS)
async def test_beside_a_service_at_work_nothing_is_found_and_nothing_is_broken(tmp_path: Path, program: str) -> None:
    async with (
        Server(tmp_path / "server", {"appendfsync": "no"}, program=PROGRAMS[program]) as server,
        open_client(server.url, connections=32, connect_timeout=5 * SECOND, command_timeout=5 * SECOND) as client,
    ):
        accounts = RedisAccounts(client)
        stop = asyncio.Event()
        done: Counter[str] = Counter()

        async def work(number: int) -> None:
            """Register, change and delete, at addresses that all want."""
            turn = 0
            while not stop.is_set():
                turn += 1
                account = an_account(f"user{(number + turn) % 7}@example.com", sessions=1)
                try:
                    await accounts.add(account, operation=operation())
                    for step in range(3):
                        before = await stored(accounts, account)
                        after = at_address(before.account, f"user{(number + turn + step) % 7}@example.com")
                        await accounts.save(before, after, operation=operation())
                    await accounts.remove(await stored(accounts, account), operation=operation())
                    done["whole turns"] += 1
                except AccountsError as error:
                    done[type(error).__name__] += 1
                    if (before_removal := await accounts.get(account.user.id)) is not None:
                        await accounts.remove(before_removal, operation=operation())

        workers = [asyncio.create_task(work(number)) for number in range(8)]
        seen: Counter[Kind] = Counter()
        try:
            for _ in range(30):
                seen.update((await inspect(client, prefix="pg", repair=True, pause=SECOND / 20)).found)
        finally:
            stop.set()
            await asyncio.gather(*workers)
        assert set(seen) <= {Kind.PENDING_CLAIM}, seen
        assert done["whole turns"] > 20, done
        assert (await look(client)).found == {}


# Repairs as one more process in the model of the claim protocol. Each step is one command, as in the code.


@attrs.frozen(kw_only=True)
class Rules(model.Rules):
    """The rules of repairs. A mutant lacks one."""

    release_old: bool = True
    """Only a claim past the lease is released as an orphan."""
    age_first: bool = True
    """How old it is has been judged before its account was read, and not after."""
    release_whole: bool = True
    """It is released by comparing the whole value."""
    release_unused: bool = True
    """It is released only where its account has not the address."""
    take_over_unused: bool = True
    """A claim is taken over only where its account has not the address."""
    take_over_old: bool = True
    """A claim is taken over only past the lease."""
    take_over_whole: bool = True
    """It is taken over by comparing the whole value."""
    make_if_absent: bool = True
    """A claim is made only where none is."""
    give_back_whole: bool = True
    """What is given back is the claim that was made, by its whole value."""


Stepped = tuple[model.Store, model.Process | None]


def has_address(store: model.Store, user: str, address: str) -> bool:
    account = model._get(store.accounts, user)
    return account is not None and account.address == address


def begin_restoring(store: model.Store, process: model.Process, _: model.Rules) -> Stepped:
    """Read the account."""
    if not has_address(store, process.program.user, process.program.address):
        return store, None
    before = model._get(store.accounts, process.program.user)
    return store, attrs.evolve(process, step=read_claim, before=before)


def read_claim(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    """Read the claim, and what time it is."""
    there = model._get(store.claims, process.program.address)
    assert isinstance(rules, Rules)
    if there is not None and (there.user == process.program.user or (rules.take_over_old and there.age < model.LEASE)):
        return store, None
    return store, process.goes_on(read_account_again, claim=there)


def read_account_again(store: model.Store, process: model.Process, _: model.Rules) -> Stepped:
    if model._get(store.accounts, process.program.user) != process.before:
        return store, None
    return store, process.goes_on(read_rival if process.claim else make_claim, claim=process.claim)


def read_rival(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    assert isinstance(rules, Rules)
    assert process.claim is not None
    if rules.take_over_unused and has_address(store, process.claim.user, process.program.address):
        return store, None
    return store, process.goes_on(take_over, claim=process.claim)


def take_over(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    assert isinstance(rules, Rules)
    if rules.take_over_whole and model._get(store.claims, process.program.address) != process.claim:
        return store, None
    return _claimed(store, process)


def make_claim(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    assert isinstance(rules, Rules)
    if rules.make_if_absent and model._get(store.claims, process.program.address) is not None:
        return store, None
    return _claimed(store, process)


def _claimed(store: model.Store, process: model.Process) -> Stepped:
    mine = model.Claim(process.program.user, process.number)
    return model._with_claim(store, process.program.address, mine), process.goes_on(look_again, claim=mine)


def look_again(store: model.Store, process: model.Process, _: model.Rules) -> Stepped:
    if has_address(store, process.program.user, process.program.address):
        return store, None
    return store, process.goes_on(give_back, claim=process.claim)


def give_back(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    assert isinstance(rules, Rules)
    if rules.give_back_whole and model._get(store.claims, process.program.address) != process.claim:
        return store, None
    return model._with_claim(store, process.program.address, None), None


def begin_releasing(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    """Read the claim, and what time it is."""
    assert isinstance(rules, Rules)
    there = model._get(store.claims, process.program.address)
    if there is None or (rules.release_old and rules.age_first and there.age < model.LEASE):
        return store, None
    return store, process.goes_on(read_holder, claim=there)


def read_holder(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    assert isinstance(rules, Rules)
    assert process.claim is not None
    if rules.release_unused and has_address(store, process.claim.user, process.program.address):
        return store, None
    return store, process.goes_on(release, claim=process.claim)


def release(store: model.Store, process: model.Process, rules: model.Rules) -> Stepped:
    assert isinstance(rules, Rules)
    assert process.claim is not None
    if rules.release_old and process.claim.age < model.LEASE:
        return store, None
    there = model._get(store.claims, process.program.address)
    if there is None or (there != process.claim if rules.release_whole else there.user != process.claim.user):
        return store, None
    return model._with_claim(store, process.program.address, None), None


Repairs = Sequence[tuple[model.Step, str, str]]
"""Of each repair the first step, the user and the address."""


def visit(rules: Rules, first: model.State, repairs: Repairs, fault_of: Callable[[model.State], str | None]) -> str | None:
    """Visit every state that comes of a first one with some repairs; return the first fault."""
    more = [
        model.Process(model.Program("change", user, address), len(first.processes) + number, step)
        for number, (step, user, address) in enumerate(repairs)
    ]
    seen = {model.State(first.store, (*first.processes, *more))}
    to_visit = list(seen)
    while to_visit:
        state = to_visit.pop()
        if (fault := fault_of(state)) is not None:
            return fault
        for _, following in model._successors(state, rules):
            if following not in seen:
                seen.add(following)
                to_visit.append(following)
    return None


def breaks(rules: Rules, scenario: model.Scenario, repairs: Repairs) -> str | None:
    """Say what does not hold when a store that is whole is repaired."""

    def fault_of(state: model.State) -> str | None:
        at_the_end = None
        if not state.processes:
            at_the_end = model._lost_claim(state.store) or model._lost_address(state.store, rules)
        return model._shared_address(state.store) or at_the_end

    return visit(rules, model._first_state(scenario), repairs, fault_of)


def robs(rules: Rules, store: model.Store, programs: str, repairs: Repairs) -> str | None:
    """Say whom the repair of a store that is not whole costs a claim. What u1 has is what is repaired."""

    def fault_of(state: model.State) -> str | None:
        addresses = [account.address for _, account in state.store.accounts]
        if state.processes or len(set(addresses)) != len(addresses):
            return None
        others = model.Store(state.store.claims, tuple(pair for pair in state.store.accounts if pair[0] != "u1"))
        return model._lost_claim(others) or model._lost_address(state.store, rules)

    processes = (
        model.Process(program, number, model.start) for number, program in enumerate(model.programs(*programs.split(", ")))
    )
    return visit(rules, model.State(store, tuple(processes)), repairs, fault_of)


SCENARIOS = {
    "a registration": model.Scenario({}, model.programs("register u1 e")),
    "two registrations": model.Scenario({}, model.programs("register u1 e", "register u2 e")),
    "a change and a registration of the old address": model.Scenario(
        {"u1": "e"}, model.programs("change u1 f", "register u2 e")
    ),
    "a change away and back": model.Scenario({"u1": "e"}, model.programs("change u1 f", "change u1 e")),
    "the same change twice": model.Scenario({"u1": "f"}, model.programs("change u1 e", "change u1 e")),
    "a deletion and a registration": model.Scenario({"u1": "e"}, model.programs("delete u1", "register u2 e")),
    "a swap": model.Scenario({"u1": "e", "u2": "f"}, model.programs("change u1 f", "change u2 e")),
}
REPAIRS: Mapping[str, Sequence[tuple[model.Step, str, str]]] = {
    "restoring": [(begin_restoring, "u1", "e")],
    "releasing": [(begin_releasing, "", "e")],
    "both": [(begin_restoring, "u1", "e"), (begin_releasing, "", "e")],
}


AT_E = (("u1", model.Account("e")),)
UNCLAIMED = model.Store((), AT_E)
FOREIGN = model.Store((("e", model.Claim("u9", -1, model.LEASE)),), AT_E)
SHARED = model.Store((("e", model.Claim("u2", -1, model.LEASE)),), (*AT_E, ("u2", model.Account("e"))))
BROKEN = {"unclaimed": UNCLAIMED, "foreign": FOREIGN, "shared": SHARED}
BESIDE = ("delete u1", "delete u1, register u2 e", "change u1 f, register u2 e", "change u1 f, change u1 e")


@pytest.mark.parametrize("repairs", REPAIRS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_in_the_model_repairs_at_any_time_break_nothing_that_is_whole(scenario: str, repairs: str) -> None:
    assert breaks(Rules(), SCENARIOS[scenario], REPAIRS[repairs]) is None


@pytest.mark.parametrize("repairs", REPAIRS)
@pytest.mark.parametrize("programs", BESIDE)
@pytest.mark.parametrize("store", BROKEN)
def test_in_the_model_repairs_at_any_time_cost_nobody_else_a_claim(store: str, programs: str, repairs: str) -> None:
    if store == "shared" and "register u2" in programs:
        programs = programs.replace("register u2", "register u3")
    assert robs(Rules(), BROKEN[store], programs, REPAIRS[repairs]) is None


NEEDED_IN_A_WHOLE_STORE = {
    "release_old": ("a registration", "the same change twice"),
    "age_first": ("a registration", "the same change twice"),
    "release_whole": ("a change away and back",),
    "release_unused": ("a change away and back", "a deletion and a registration"),
}
NEEDED_IN_A_BROKEN_STORE = {
    "take_over_unused": ("shared", "delete u1"),
    "take_over_old": ("unclaimed", "delete u1, register u2 e"),
    "take_over_whole": ("foreign", "delete u1, register u2 e"),
    "make_if_absent": ("unclaimed", "delete u1, register u2 e"),
    "give_back_whole": ("unclaimed", "delete u1, register u2 e"),
}


@pytest.mark.parametrize(
    ("rule", "scenario"), [(rule, each) for rule, them in NEEDED_IN_A_WHOLE_STORE.items() for each in them]
)
def test_in_the_model_releasing_without_any_one_rule_breaks_something(rule: str, scenario: str) -> None:
    assert breaks(attrs.evolve(Rules(), **{rule: False}), SCENARIOS[scenario], REPAIRS["releasing"]) is not None


@pytest.mark.parametrize(("rule", "at"), NEEDED_IN_A_BROKEN_STORE.items())
def test_in_the_model_restoring_without_any_one_rule_costs_somebody_a_claim(rule: str, at: tuple[str, str]) -> None:
    store, programs = at
    assert robs(attrs.evolve(Rules(), **{rule: False}), BROKEN[store], programs, REPAIRS["restoring"]) is not None


def test_every_rule_of_repairs_has_a_case_that_needs_it() -> None:
    own = {field.name for field in attrs.fields(Rules)} - {field.name for field in attrs.fields(model.Rules)}
    assert own == NEEDED_IN_A_WHOLE_STORE.keys() | NEEDED_IN_A_BROKEN_STORE.keys()
