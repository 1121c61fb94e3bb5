"""What the tests of faults rely on can fail: each kind of false answer is noticed, in a store that is made to give it."""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.encoding import account_key, encode_credential, encode_session, encode_user
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import AddressTaken, OutcomeUnknown, StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import User
from pickguard.ports.accounts import Snapshot
from tests.faults.workload import Load, in_process
from tests.support.accounts import a_session, an_account, at_address, operation
from tests.support.fakes import cheap_hasher
from tests.support.invariants import Scan
from tests.support.tally import BROKEN, FALSE_REFUSAL, FALSE_SUCCESS, IMPOSSIBLE, LOST, Tally

STEPS = 60


class Faulty(RedisAccounts):
    """Accounts that now and then are not kept as they must be."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.raw = client
        self.calls = 0

    def now_and_then(self) -> bool:
        self.calls += 1
        return self.calls % 11 == 0


class ForgetsWrites(Faulty):
    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        if not self.now_and_then():
            await super().save(before, after, operation=operation)


class ForgetsRegistrations(Faulty):
    async def add(self, account: Account, *, operation: bytes) -> None:
        if not self.now_and_then():
            await super().add(account, operation=operation)


class ForgetsRemovals(Faulty):
    async def remove(self, before: Snapshot, *, operation: bytes) -> None:
        if not self.now_and_then():
            await super().remove(before, operation=operation)


class WritesAndSaysThatItDidNot(Faulty):
    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        await super().save(before, after, operation=operation)
        if self.now_and_then():
            raise StoreUnavailable("nothing was stored, it says")


class WritesSomethingElseOfUnknownOutcome(Faulty):
    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        if self.now_and_then():
            await super().save(before, at_address(after, f"{operation.hex()}@example.com"), operation=operation)
            raise OutcomeUnknown("the answer was lost")
        await super().save(before, after, operation=operation)


class TakesAddressesThatNobodyHas(Faulty):
    async def add(self, account: Account, *, operation: bytes) -> None:
        if self.now_and_then():
            raise AddressTaken
        await super().add(account, operation=operation)


class RemembersEndedSessions(Faulty):
    """As a cache does that nobody told."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.seen: dict[SessionDigest, tuple[User, Session]] = {}

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        found = await super().read_session(user_id, digest)
        if found is not None:
            self.seen[digest] = found
        return self.seen.get(digest)


class GivesOneAddressToTwo(Faulty):
    """As one does that looks first and writes then."""

    async def add(self, account: Account, *, operation: bytes) -> None:
        try:
            await super().add(account, operation=operation)
        except AddressTaken:
            await self._save(None, account, operation, claim=None)


class LosesClaims(Faulty):
    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        await super().save(before, after, operation=operation)
        if self.now_and_then():
            async for key in self.raw.scan_iter(match="pg:email:*"):
                await self.raw.delete(key)


class WritesHalves(Faulty):
    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        await super().save(before, after, operation=operation)
        if self.now_and_then():
            await self.raw.hdel(f"pg:{{{after.user.id}}}", "c")


async def run(accounts: Callable[[Any], Faulty]) -> Tally:
    tally = Tally()
    async with FakeAsyncRedis(version=(7,), protocol=2) as client, cheap_hasher() as hasher:
        load = Load([in_process(accounts(client), hasher)], people=8, contested=2, tally=tally, random=Random(1))
        for _ in range(STEPS):
            await asyncio.gather(*(person.step(load.processes[0]) for person in load.people if not person.stopped))
        await load.audit(client)
    return tally


@pytest.mark.parametrize(
    ("accounts", "kinds"),
    [
        (ForgetsWrites, {LOST}),
        (ForgetsRegistrations, {LOST}),
        (ForgetsRemovals, {LOST}),
        (WritesAndSaysThatItDidNot, {LOST}),
        (WritesSomethingElseOfUnknownOutcome, {FALSE_REFUSAL}),
        (TakesAddressesThatNobodyHas, {FALSE_REFUSAL}),
        (RemembersEndedSessions, {FALSE_SUCCESS}),
        (GivesOneAddressToTwo, {IMPOSSIBLE, BROKEN}),
        (LosesClaims, {BROKEN, FALSE_REFUSAL}),
        (WritesHalves, {BROKEN}),
        (Faulty, set()),
    ],
)
async def test_what_is_not_as_it_must_be_is_noticed(accounts: Callable[[Any], Faulty], kinds: set[str]) -> None:
    tally = await run(accounts)
    assert kinds <= tally.violations().keys(), tally.details
    assert kinds or not tally.violations(), tally.details


ADA = an_account("ada@example.com")
KEY = account_key("pg", ADA.user.id)
USER = encode_user(ADA.user)
SESSION = encode_session(a_session(ADA))
WHOLE: Mapping[Any, bytes] = {"v": b"1", "o": b"12345678", "u": USER, "c": encode_credential(ADA.credential)}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({**WHOLE}, "without a claim"),
        ({b"s:" + bytes(32): SESSION}, "half an account"),
        ({**WHOLE, "u": USER[:10]}, "half an account"),
        ({**WHOLE, "v": b"2"}, "remembers 1 operations at version 2"),
        ({**WHOLE, "o": b"1234567890"}, "remembers 1 operations"),
        ({**WHOLE, "x": b""}, "a field that is none of its own"),
        ({**WHOLE, b"s:" + bytes(31): SESSION}, "a field that is none of its own"),
        ({**WHOLE, b"s:" + bytes(32): SESSION, b"s:" + bytes(31) + b"1": SESSION}, "one session twice"),
    ],
)
async def test_the_scan_names_what_is_wrong_with_an_account(fields: Mapping[Any, bytes], fault: str) -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        await client.hset(KEY, mapping=fields)
        assert any(fault in each for each in (await Scan.of(client)).faults)


async def test_the_scan_sees_one_address_with_two_accounts_and_a_claim_of_somebody_else() -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        await RedisAccounts(client).add(an_account("ada@example.com"), operation=operation())
        await client.hset(KEY, mapping=WHOLE)
        text = "\n".join((await Scan.of(client)).faults)
    assert "ada@example.com has two accounts" in text
    assert "on ada@example.com is that of" in text


@pytest.mark.parametrize(
    ("key", "faults"),
    [
        ("other:key", ["other:key has no owner"]),
        ("pg:request:1", ["pg:request:1 would be kept for ever"]),
        ("pg:probe:1", ["pg:probe:1 would be kept for ever"]),
    ],
)
async def test_the_scan_names_keys_that_belong_to_nobody(key: str, faults: list[str]) -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        await client.set(key, "")
        assert (await Scan.of(client)).faults == faults


@pytest.mark.parametrize("key", ["pg:request:1", "pg:probe:1"])
async def test_the_scan_lets_pass_what_goes_by_itself(key: str) -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        await client.set(key, "", px=60_000)
        assert (await Scan.of(client)).faults == []
