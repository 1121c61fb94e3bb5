"""Every crash point, every lost answer and every interleaving of the Redis adapter, on a server in memory."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import redis.exceptions
from fakeredis import FakeAsyncRedis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pickguard import AccountsError, AddressTaken, AddressUndecided, OutcomeUnknown, StoreUnavailable
from pickguard.adapters.redis import claims, scripts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.claims import Claim
from pickguard.adapters.redis.commands import REFUSALS, NotSentError
from pickguard.adapters.redis.encoding import account_key, claim_key, session_field
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import Conflict
from pickguard.ports.accounts import Snapshot
from tests.support.accounts import an_account, at_address, operation, renamed
from tests.support.faults import Crash, FaultyClient, age_claims, aged, broken_invariants, lost_addresses

ADDRESSES = ("ada@example.com", "new@example.com")

Write = Callable[[RedisAccounts, Snapshot], Awaitable[None]]


async def add_new(accounts: RedisAccounts, _: Snapshot) -> None:
    await accounts.add(an_account("new@example.com"), operation=operation())


async def rename(accounts: RedisAccounts, before: Snapshot) -> None:
    await accounts.save(before, renamed(before.account, "Countess"), operation=operation())


async def change_address(accounts: RedisAccounts, before: Snapshot) -> None:
    await accounts.save(before, at_address(before.account, "new@example.com"), operation=operation())


async def remove(accounts: RedisAccounts, before: Snapshot) -> None:
    await accounts.remove(before, operation=operation())


WRITES = [add_new, rename, change_address, remove]


@asynccontextmanager
async def a_server() -> AsyncGenerator[FakeAsyncRedis]:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        yield client


async def with_ada(client: Any) -> Snapshot:
    for script in (scripts.CLAIM, scripts.TAKE_OVER, scripts.RELEASE, scripts.SAVE, scripts.REMOVE):
        await client.script_load(script.source)
    accounts = RedisAccounts(client)
    account = an_account("ada@example.com", sessions=1)
    await accounts.add(account, operation=operation())
    await age_claims(client)
    snapshot = await accounts.get(account.user.id)
    assert snapshot is not None
    return snapshot


async def commands_of(write: Write) -> int:
    """Count the commands of a write that meets no fault."""
    async with a_server() as client:
        before = await with_ada(client)
        counting = FaultyClient(client, at=0, fault="")
        await write(RedisAccounts(counting), before)
        return counting.sent


@pytest.mark.requirement(44)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("fault", ["crash before", "crash after"])
async def test_a_crash_at_any_command_leaves_nothing_half_done_and_no_address_lost(write: Write, fault: str) -> None:
    for at in range(1, await commands_of(write) + 1):
        async with a_server() as client:
            before = await with_ada(client)
            with pytest.raises(Crash):
                await write(RedisAccounts(FaultyClient(client, at=at, fault=fault)), before)
            assert await broken_invariants(client) == [], f"command {at}"
            await age_claims(client)
            assert await lost_addresses(client, *ADDRESSES) == [], f"command {at}"
            assert await broken_invariants(client) == [], f"command {at}"


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("fault", ["lose command", "lose answer"])
async def test_a_lost_answer_at_any_command_is_found_or_said_to_be_unknown(write: Write, fault: str) -> None:
    for at in range(1, await commands_of(write) + 1):
        async with a_server() as client:
            before = await with_ada(client)
            try:
                await write(RedisAccounts(FaultyClient(client, at=at, fault=fault)), before)
            except OutcomeUnknown:
                # Only where the write itself never arrived: it may be on its way still.
                assert fault == "lose command"
                await age_claims(client)
            else:
                assert await took_effect(client, write, before), f"command {at}"
            assert await broken_invariants(client) == [], f"command {at}"
            assert await lost_addresses(client, *ADDRESSES) == [], f"command {at}"


async def took_effect(client: Any, write: Write, before: Snapshot) -> bool:
    accounts = RedisAccounts(client)
    new = await accounts.find(an_account("new@example.com").user.email)
    ada = await accounts.get(before.account.user.id)
    if write is add_new:
        return new is not None
    if write is change_address:
        return new is not None and new.account.user.id == before.account.user.id
    if write is remove:
        return ada is None
    return ada is not None and ada.account.user.name.value == "Countess" and ada.version == before.version + 1


async def test_a_lost_answer_is_known_for_a_conflict_once_another_write_took_the_version() -> None:
    async with a_server() as client:
        before = await with_ada(client)

        class Overtaken(FaultyClient):
            async def execute_command(self, *args: Any, **options: Any) -> Any:
                if args[0] == "EVALSHA":
                    await rename(RedisAccounts(client), before)
                return await super().execute_command(*args, **options)

        with pytest.raises(Conflict):
            await rename(RedisAccounts(Overtaken(client, at=1, fault="lose command")), before)


async def test_a_lost_answer_stays_unknown_once_too_many_writes_followed() -> None:
    async with a_server() as client:
        before = await with_ada(client)

        class LongOvertaken(FaultyClient):
            async def execute_command(self, *args: Any, **options: Any) -> Any:
                if args[0] == "HMGET":
                    for number in range(9):
                        present = await RedisAccounts(client).get(before.account.user.id)
                        assert present is not None
                        changed = renamed(present.account, f"Name {number}")
                        await RedisAccounts(client).save(present, changed, operation=operation())
                return await super().execute_command(*args, **options)

        with pytest.raises(OutcomeUnknown):
            await rename(RedisAccounts(LongOvertaken(client, at=1, fault="lose answer")), before)


async def test_a_young_claim_without_account_is_undecided_and_never_taken() -> None:
    async with a_server() as client:
        with pytest.raises(Crash):
            await add_new(RedisAccounts(FaultyClient(client, at=1, fault="crash after")), await with_ada(client))
        with mock.patch.object(claims, "PATIENCE", timedelta(0)), pytest.raises(AddressUndecided) as refusal:
            await RedisAccounts(client).add(an_account("new@example.com"), operation=operation())
        assert timedelta(seconds=25) < refusal.value.retry_after <= claims.LEASE


async def test_a_young_claim_is_watched_until_its_account_appears() -> None:
    async with a_server() as client:
        claimed, resume = asyncio.Event(), asyncio.Event()

        class Slow(FaultyClient):
            async def execute_command(self, *args: Any, **options: Any) -> Any:
                answer = await super().execute_command(*args, **options)
                if not claimed.is_set():
                    claimed.set()
                    await resume.wait()
                return answer

        slow = asyncio.create_task(
            RedisAccounts(Slow(client, at=0, fault="")).add(an_account("new@example.com"), operation=b"12345678")
        )
        await claimed.wait()

        class Watching(FaultyClient):
            async def execute_command(self, *args: Any, **options: Any) -> Any:
                if self.sent == 4:
                    resume.set()
                return await super().execute_command(*args, **options)

        with pytest.raises(AddressTaken):
            await RedisAccounts(Watching(client, at=0, fault="")).add(an_account("new@example.com"), operation=operation())
        await slow


async def test_a_save_under_a_claim_past_its_deadline_is_refused_and_gives_the_claim_back() -> None:
    async with a_server() as client:
        before = await with_ada(client)

        class Stalled(FaultyClient):
            async def execute_command(self, *args: Any, **options: Any) -> Any:
                answer = await super().execute_command(*args, **options)
                if args[0] in {"EVAL", "EVALSHA"} and isinstance(answer, list):
                    won, record, now = answer
                    return [won, aged(Claim.parse(record), 11_000), now]
                return answer

        with pytest.raises(StoreUnavailable):
            await change_address(RedisAccounts(Stalled(client, at=0, fault="")), before)
        assert await RedisAccounts(client).get(before.account.user.id) == before
        assert await broken_invariants(client) == []


async def test_a_flushed_script_is_sent_again() -> None:
    async with a_server() as client:
        before = await with_ada(client)
        await client.script_flush()
        await rename(RedisAccounts(client), before)


OLD_RECORDS = {
    "u": b'{"n":"Ada","e":"ada@example.com","v":false,"c":1767323045678,"u":1767323045678}',
    "c": b'{"h":"$argon2id$not-a-real-hash","e":1,"c":1767323045678}',
    "session": b'{"i":"019b7d1f2a0e70008000000000000001","c":1767323045678,"l":1767323045678,"a":1767323045678}',
    "claim": b"019b7d1f-2a0e-7000-8000-000000000001 0123456789abcdef 1767323045678",
}
"""What versions in development wrote, before there were formats with numbers."""


@pytest.mark.parametrize("what", OLD_RECORDS)
async def test_what_this_version_cannot_read_is_unavailable_and_stays_as_it_is(what: str) -> None:
    async with a_server() as client:
        accounts = RedisAccounts(client)
        ada = an_account(sessions=1)
        await accounts.add(ada, operation=operation())
        before = await accounts.get(ada.user.id)
        assert before is not None
        (session,) = ada.sessions
        account, claim = account_key("pg", ada.user.id), claim_key("pg", ada.user.email.key)
        if what == "claim":
            await client.set(claim, OLD_RECORDS[what])
        else:
            await client.hset(account, session_field(session.digest) if what == "session" else what, OLD_RECORDS[what])
        await age_readable_claims(client)
        there = await client.hgetall(account), await client.get(claim)
        refused = {
            "u": ("get", "find", "read", "add"),
            "c": ("get", "find"),
            "session": ("get", "find", "read"),
            "claim": ("find", "add", "change address", "remove"),
        }
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "get": lambda: accounts.get(ada.user.id),
            "find": lambda: accounts.find(ada.user.email),
            "read": lambda: accounts.read_session(ada.user.id, session.digest),
            "add": lambda: accounts.add(an_account(), operation=operation()),
            "change address": lambda: change_address(accounts, before),
            "remove": lambda: remove(accounts, before),
        }
        for name in refused[what]:
            with pytest.raises(StoreUnavailable, match="which this version does not know"):
                await calls[name]()
            assert (await client.hgetall(account), await client.get(claim)) == there, name


async def age_readable_claims(client: Any) -> None:
    with contextlib.suppress(StoreUnavailable):
        await age_claims(client)


ERRORS = [
    error
    for error in vars(redis.exceptions).values()
    if isinstance(error, type) and issubclass(error, redis.exceptions.RedisError)
]


@pytest.mark.parametrize(
    "error",
    [*ERRORS, NotSentError, OSError, TimeoutError, ConnectionResetError],
    ids=lambda error: f"{error.__module__}.{error.__name__}",
)
async def test_every_failure_of_the_client_is_an_error_of_the_port(error: type[Exception]) -> None:
    class Failing:
        async def execute_command(self, *_: Any, **__: Any) -> Any:
            raise error("1 127.0.0.1:1" if issubclass(error, redis.exceptions.AskError) else "Sensitive server text")

    accounts = RedisAccounts(Failing())
    account = an_account()
    before = Snapshot(account=account, version=1)
    for read in (
        accounts.get(account.user.id),
        accounts.find(account.user.email),
        accounts.read_session(account.user.id, b"x"),  # type: ignore[arg-type]
        accounts.check_writable(),
        accounts.add(account, operation=operation()),
    ):
        with pytest.raises(StoreUnavailable) as failure:
            await read
        assert "text" not in str(failure.value)
    certain = issubclass(error, REFUSALS)
    for write in (
        accounts.save(before, renamed(account, "Else"), operation=operation()),
        accounts_remove_directly(accounts, before),
    ):
        with pytest.raises(StoreUnavailable if certain else OutcomeUnknown):
            await write


async def accounts_remove_directly(accounts: RedisAccounts, before: Snapshot) -> None:
    """The part of a removal after the claim was read."""
    await accounts._remove(before)


# Every interleaving, as far as hypothesis finds them: the processes below run the real adapter, one command at a time, in an
# order that hypothesis chooses; between any two commands a process may crash for good and time may pass.


class Scheduled:
    """A client each of whose commands waits until the schedule says go, and may then be its last."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.waiting: asyncio.Future[bool] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.waiting = asyncio.get_running_loop().create_future()
        crashes = await self.waiting
        self.waiting = None
        if crashes:
            raise Crash
        return await self._client.execute_command(*args, **options)


Program = Callable[[RedisAccounts], Awaitable[None]]


def changing(account: Account, email: str) -> Program:
    async def run(accounts: RedisAccounts) -> None:
        snapshot = await accounts.get(account.user.id)
        if snapshot is not None and snapshot.account.user.email.value != email:
            await accounts.save(snapshot, at_address(snapshot.account, email), operation=operation())

    return run


def removing(account: Account) -> Program:
    async def run(accounts: RedisAccounts) -> None:
        snapshot = await accounts.get(account.user.id)
        if snapshot is not None:
            await accounts.remove(snapshot, operation=operation())

    return run


def adding(email: str) -> Program:
    async def run(accounts: RedisAccounts) -> None:
        await accounts.add(an_account(email), operation=operation())

    return run


async def play(draw: Callable[[st.SearchStrategy[Any]], Any], offset: list[float]) -> None:
    async with a_server() as client:
        ada = (await with_ada(client)).account
        menu = [
            changing(ada, "new@example.com"),
            changing(ada, "ada@example.com"),
            removing(ada),
            adding("new@example.com"),
            adding("ada@example.com"),
        ]
        programs = [menu[index] for index in draw(st.lists(st.integers(0, len(menu) - 1), min_size=2, max_size=4))]
        clients = [Scheduled(client) for _ in programs]

        async def run(program: Program, scheduled: Scheduled) -> None:
            try:
                await program(RedisAccounts(scheduled))
            except (AccountsError, Crash):
                return

        tasks = [asyncio.ensure_future(run(*each)) for each in zip(programs, clients, strict=True)]
        crashes_left, jumps_left = 2, 3
        while True:
            while any(not task.done() and each.waiting is None for task, each in zip(tasks, clients, strict=True)):
                await asyncio.sleep(0)  # until nothing can run any more
            ready = [each for task, each in zip(tasks, clients, strict=True) if not task.done()]
            if not ready:
                break
            chosen = ready[draw(st.integers(0, len(ready) - 1))]
            event = draw(st.sampled_from(["run"] * 6 + ["crash"] * (crashes_left > 0) + ["jump"] * (jumps_left > 0)))
            if event == "jump":
                jumps_left -= 1
                offset[0] += draw(st.sampled_from([11, 31]))
                continue
            crashes_left -= event == "crash"
            waiting = chosen.waiting
            assert waiting is not None
            chosen.waiting = None
            waiting.set_result(event == "crash")
        await asyncio.gather(*tasks)
        assert await broken_invariants(client) == []
        offset[0] += 31
        assert await lost_addresses(client, *ADDRESSES) == []
        assert await broken_invariants(client) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_interleaving_crash_or_passing_of_time_breaks_an_invariant(data: st.DataObject) -> None:
    offset = [0.0]
    server_time = mock.Mock(time=lambda: time.time() + offset[0])
    with (
        mock.patch("fakeredis.commands_mixins.server_mixin.time", server_time),
        mock.patch.object(claims, "PATIENCE", timedelta(seconds=-1)),
    ):
        asyncio.run(play(data.draw, offset))
