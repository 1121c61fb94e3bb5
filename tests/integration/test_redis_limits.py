"""Limits on real servers, and what becomes of them when a server fails."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis.asyncio
from fakeredis import FakeAsyncRedis, FakeServer
from hypothesis import given

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis import scripts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import limit_key, source_digest, tries_key
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.domain.model.errors import RateLimited, StoreUnavailable
from pickguard.domain.model.limits import Failures, Limit, Rate
from pickguard.entrypoints.bootstrap import open_store
from pickguard.entrypoints.settings import Settings
from pickguard.ports.limits import RateLimiter
from pickguard.testing.contracts.rate_limiter import (
    ADDRESS,
    AFAR,
    ELSEWHERE,
    HERE,
    MINUTE,
    MS,
    RULES,
    SECOND,
    Limiters,
    Step,
    attempt,
    fail,
    play,
    refused,
    steps,
)
from tests.contracts.limits import LimitsContract
from tests.support.accounts import NOW
from tests.support.engines import PROGRAMS
from tests.support.faults import FaultyClient
from tests.support.records import LIMIT, TRIES
from tests.support.redis_servers import Server
from tests.support.strategies import examples
from tests.support.topologies import Replicated

on_all_engines = pytest.mark.parametrize("engine", PROGRAMS, indirect=True)

Call = Callable[[RateLimiter], Awaitable[object]]

CALLS: dict[str, Call] = {
    "check": lambda limiter: limiter.check(attempt(), NOW),
    "fail": lambda limiter: limiter.fail(attempt(), NOW),
    "succeed": lambda limiter: limiter.succeed(attempt(), NOW),
    "forgive": lambda limiter: limiter.forgive(ADDRESS),
    "count": lambda limiter: limiter.count(Limit.MAILS, ADDRESS, NOW),
}
WRITES = ("fail", "succeed", "count")
"""Those of them that need memory where something was counted from two sources."""


@asynccontextmanager
async def opened(url: str, *, wait_replicas: int = 0) -> AsyncGenerator[RedisRateLimiter]:
    async with open_client(
        url,
        connections=16,
        connect_timeout=5 * SECOND,
        command_timeout=5 * SECOND,
        wait_replicas=wait_replicas,
        wait_timeout=timedelta(milliseconds=100),
    ) as client:
        yield RedisRateLimiter(client, rules=RULES)


@pytest.fixture
async def limiter(engine: Engine) -> AsyncGenerator[RateLimiter]:
    async with opened(engine.url) as limiter:
        yield limiter


@on_all_engines
class TestRedisRateLimiter(LimitsContract):
    @pytest.fixture
    async def limiters(self, engine: Engine) -> AsyncGenerator[Limiters]:
        options: dict[str, Any] = {"connections": 16, "connect_timeout": 5 * SECOND, "command_timeout": 5 * SECOND}
        async with open_client(engine.url, **options) as one, open_client(engine.url, **options) as other:
            clients = [one, other]

            def make(rules: Any) -> RateLimiter:
                clients.reverse()
                return RedisRateLimiter(clients[0], rules=rules)

            yield make


class TestRedisRateLimiterOnFakeredis(LimitsContract):
    @pytest.fixture
    async def limiters(self) -> AsyncGenerator[Limiters]:
        async with FakeAsyncRedis(version=(7,), protocol=2, server=FakeServer(), max_connections=256) as client:
            yield lambda rules: RedisRateLimiter(client, rules=rules)


@pytest.mark.parametrize("program", PROGRAMS)
@given(history=steps)
@examples(60)
def test_any_history_goes_as_the_model_says(program: str, engines: Callable[[str], Engine], history: Sequence[Step]) -> None:
    async def run() -> None:
        async with redis.asyncio.Redis(unix_socket_path=str(engines(program).socket_path)) as client:
            await client.flushall()
            await play(history, RedisRateLimiter(client, rules=RULES))
            for key in await client.keys("*"):
                assert await client.pttl(key) > 0

    asyncio.run(run())


@on_all_engines
async def test_the_store_comes_with_the_limits_that_are_set_for_all_its_users_together(
    engine: Engine, direct: redis.asyncio.Redis
) -> None:
    one = Settings(store=engine.url, limit_guesses=Rate(1, 10 * SECOND))
    async with open_store(one) as here, open_store(one) as there:
        await here.limits.fail(attempt(), NOW)
        assert await refused(there.limits.check(attempt(), NOW)) == (Limit.GUESSES, 10 * SECOND)
    await direct.flushall()
    async with open_store(attrs.evolve(one, rate_limits="off")) as store:
        for _ in range(200):
            await store.limits.fail(attempt(), NOW)
        await store.limits.check(attempt(), NOW)
    assert not await direct.keys("*")


@on_all_engines
async def test_what_is_counted_is_written_like_this_for_good(limiter: RateLimiter, direct: redis.asyncio.Redis) -> None:
    await limiter.fail(attempt(), NOW)
    await limiter.fail(attempt(), NOW + MS)
    await limiter.fail(attempt(ELSEWHERE), NOW + 2 * MS)
    assert await direct.get(tries_key("pg", ADDRESS)) == TRIES
    assert await direct.get(limit_key("pg", Limit.SOURCE, HERE)) == LIMIT
    await limiter.succeed(attempt(), NOW + 3 * MS)
    left = bytes.fromhex("01 00000000 000000000000 00") + source_digest(ELSEWHERE)
    assert await direct.get(tries_key("pg", ADDRESS)) == left + bytes.fromhex("00000000 000000000000 0001 019b7ca98f30")


# Nothing lasts.


@on_all_engines
async def test_every_key_goes_by_itself_when_nothing_of_it_counts_any_more(
    limiter: RateLimiter, direct: redis.asyncio.Redis
) -> None:
    async def lives(key: str, time: timedelta) -> bool:
        milliseconds = time // timedelta(milliseconds=1)
        return milliseconds - 5000 < await direct.pttl(key) <= milliseconds

    await limiter.fail(attempt(), NOW)
    await limiter.fail(attempt(ELSEWHERE), NOW + 10 * SECOND)
    await limiter.count(Limit.MAILS, ADDRESS, NOW)
    await limiter.count(Limit.REGISTRATIONS, HERE, NOW)
    assert await lives(tries_key("pg", ADDRESS), RULES.run.within)
    assert await lives(limit_key("pg", Limit.SOURCE, HERE), RULES.source.within)
    assert await lives(limit_key("pg", Limit.MAILS, ADDRESS), RULES.mails.within)
    assert await lives(limit_key("pg", Limit.REGISTRATIONS, HERE), RULES.registrations.within)
    await direct.pexpire(limit_key("pg", Limit.SOURCE, HERE), 1000)
    await limiter.fail(attempt(address="grace@example.com"), NOW + MINUTE)
    assert await lives(limit_key("pg", Limit.SOURCE, HERE), RULES.source.within)
    # Only the guess from elsewhere is left, and counts for so much longer.
    await limiter.succeed(attempt(), NOW + 30 * SECOND)
    assert await lives(tries_key("pg", ADDRESS), 40 * SECOND)
    await limiter.succeed(attempt(ELSEWHERE), NOW + 30 * SECOND)
    assert not await direct.exists(tries_key("pg", ADDRESS))
    await limiter.forgive("grace@example.com")
    assert not await direct.exists(tries_key("pg", "grace@example.com"))


@on_all_engines
async def test_what_the_server_has_forgotten_counts_no_more(limiter: RateLimiter, direct: redis.asyncio.Redis) -> None:
    last = await fail(limiter, 3, attempt())
    await direct.delete(tries_key("pg", ADDRESS))
    await limiter.check(attempt(), last)


@on_all_engines
async def test_one_account_takes_bounded_room_whoever_guesses(limiter: RateLimiter, direct: redis.asyncio.Redis) -> None:
    async def grows_to(known: bool, sources: int) -> int:  # noqa: FBT001
        for number in range(sources):
            now = NOW + number * 8 * MINUTE  # a run is never forgotten, and only that of its source is judged
            await limiter.fail(attempt(f"source {number}", known=known), now)
        return int(await direct.strlen(tries_key("pg", ADDRESS)))

    assert await grows_to(known=True, sources=200) < 120
    await direct.flushall()
    with pytest.raises(RateLimited):
        await grows_to(known=False, sources=200)
    assert await direct.strlen(tries_key("pg", ADDRESS)) < 120


# What it costs.


class Counting:
    """A client that keeps the commands."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.commands: list[str] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.commands.append(args[0])
        return await self._client.execute_command(*args, **options)  # type: ignore[no-untyped-call]


@on_all_engines
async def test_a_log_in_without_failures_reads_and_runs_no_script(direct: redis.asyncio.Redis) -> None:
    client = Counting(direct)
    limiter = RedisRateLimiter(client, rules=RULES)
    await limiter.check(attempt(), NOW)
    await limiter.succeed(attempt(), NOW)
    assert client.commands == ["GET"] * 4
    assert not await direct.keys("*")


@on_all_engines
async def test_where_there_is_nothing_to_forget_nothing_is_written(limiter: RateLimiter, direct: redis.asyncio.Redis) -> None:
    await fail(limiter, 2, attempt(ELSEWHERE))
    assert (await limiter.succeed(attempt(), NOW + SECOND)).count == 2
    before = (await direct.info("persistence"))["rdb_changes_since_last_save"]
    assert await limiter.succeed(attempt(), NOW + SECOND) == Failures()
    assert await limiter.forgive("nobody") == Failures()
    assert (await direct.info("persistence"))["rdb_changes_since_last_save"] == before


@on_all_engines
async def test_a_source_that_is_too_long_to_be_an_address_is_counted_and_not_kept(
    limiter: RateLimiter, direct: redis.asyncio.Redis
) -> None:
    last = await fail(limiter, 3, attempt("x" * 10_000))
    assert (await refused(limiter.check(attempt("x" * 10_000), last)))[0] is Limit.GUESSES
    await limiter.check(attempt("x" * 9_999), last)
    assert await direct.strlen(tries_key("pg", ADDRESS)) < 100
    assert await limiter.succeed(attempt(), last) == Failures(count=3, last_at=last)


# What cannot be read.

GARBAGE: dict[str, bytes] = {"another format": b"\x02" + bytes(50), "half a record": b"\x01\x00\x00", "nothing": b""}


@pytest.mark.requirement(79)
@on_all_engines
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_cannot_be_read_keeps_the_gate_shut(limiter: RateLimiter, direct: redis.asyncio.Redis, garbage: str) -> None:
    for key in (tries_key("pg", ADDRESS), limit_key("pg", Limit.MAILS, ADDRESS), limit_key("pg", Limit.SOURCE, AFAR)):
        await direct.set(key, GARBAGE[garbage])
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable):
            await call(limiter)
    with pytest.raises(StoreUnavailable):
        await limiter.check(attempt(AFAR, address="grace@example.com"), NOW)
    with pytest.raises(StoreUnavailable):
        await limiter.fail(attempt(AFAR, address="grace@example.com"), NOW)
    assert await direct.get(tries_key("pg", ADDRESS)) == GARBAGE[garbage]


@on_all_engines
@pytest.mark.parametrize("cut", range(1, 24))
async def test_a_record_that_is_cut_off_keeps_the_gate_shut(
    limiter: RateLimiter, direct: redis.asyncio.Redis, cut: int
) -> None:
    key = tries_key("pg", ADDRESS)
    await fail(limiter, 2, attempt())
    whole = await direct.get(key)
    assert whole is not None
    await direct.set(key, whole[:-cut])
    for name in ("check", "fail", "succeed"):
        with pytest.raises(StoreUnavailable):
            await CALLS[name](limiter)
    assert await direct.get(key) == whole[:-cut]


@on_all_engines
async def test_a_key_of_another_type_keeps_the_gate_shut(limiter: RateLimiter, direct: redis.asyncio.Redis) -> None:
    for key in (tries_key("pg", ADDRESS), limit_key("pg", Limit.MAILS, ADDRESS)):
        await direct.hset(key, "a", "b")
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable):
            await call(limiter)


# Servers that fail.


@pytest.mark.parametrize("fault", ["lose command", "lose answer"])
async def test_a_count_is_sent_once_and_a_lost_answer_is_no_permission(fault: str) -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2, server=FakeServer()) as client:
        for script in (scripts.FAIL, scripts.SUCCEED, scripts.COUNT, scripts.FORGIVE):
            await client.script_load(script.source)
        sure = RedisRateLimiter(client, rules=RULES)
        for at, counted in ((1, (0, 1)), (2, (1, 1))):  # the account's script, then that of the source
            faulty = RedisRateLimiter(FaultyClient(client, at=at, fault=fault), rules=RULES)
            with pytest.raises(StoreUnavailable):
                await faulty.fail(attempt(), NOW)
            assert (await sure.forgive(ADDRESS)).count == counted[fault == "lose answer"]
        faulty = RedisRateLimiter(FaultyClient(client, at=1, fault=fault), rules=RULES)
        with pytest.raises(StoreUnavailable):
            await faulty.count(Limit.MAILS, ADDRESS, NOW)
        for _ in range(RULES.mails.most - (fault == "lose answer")):
            await sure.count(Limit.MAILS, ADDRESS, NOW)
        await refused(sure.count(Limit.MAILS, ADDRESS, NOW))


@pytest.mark.parametrize("fault", ["lose command", "lose answer"])
async def test_reading_and_forgetting_are_sent_again(fault: str) -> None:
    async with FakeAsyncRedis(version=(7,), protocol=2, server=FakeServer()) as client:
        sure = RedisRateLimiter(client, rules=RULES)
        for at in range(1, 4):
            last = await fail(sure, 2, attempt(address=f"user{at}"))
            await RedisRateLimiter(FaultyClient(client, at=at, fault=fault), rules=RULES).succeed(
                attempt(ELSEWHERE, address=f"user{at}"), last
            )
            assert (await sure.succeed(attempt(ELSEWHERE, address=f"user{at}"), last)) == Failures()
            await sure.forgive(f"user{at}")
            await client.delete(limit_key("pg", Limit.SOURCE, HERE))
        for at in (1, 2):
            await sure.fail(attempt(), NOW)
            await RedisRateLimiter(FaultyClient(client, at=at, fault=fault), rules=RULES).forgive(ADDRESS)
            assert await sure.forgive(ADDRESS) == Failures()


async def fill(direct: redis.asyncio.Redis) -> None:
    await direct.config_set("maxmemory", 1)


async def demote(direct: redis.asyncio.Redis) -> None:
    await direct.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]


async def cut_off(direct: redis.asyncio.Redis) -> None:
    await direct.config_set("min-replicas-to-write", 1)


@on_all_engines
@pytest.mark.parametrize("refuse", [fill, demote, cut_off])
async def test_where_nothing_can_be_written_no_guess_passes_and_limits_hold(
    limiter: RateLimiter, direct: redis.asyncio.Redis, refuse: Callable[[redis.asyncio.Redis], Awaitable[None]]
) -> None:
    await fail(limiter, 1, attempt())
    await fail(limiter, 3, attempt(ELSEWHERE))
    await refuse(direct)
    try:
        await limiter.check(attempt(), NOW + 3 * SECOND)
        for name in WRITES:
            with pytest.raises(StoreUnavailable):
                await CALLS[name](limiter)
        assert (await refused(limiter.check(attempt(ELSEWHERE), NOW + 3 * SECOND)))[0] is Limit.GUESSES
        assert await limiter.succeed(attempt(address="grace@example.com"), NOW) == Failures()
    finally:
        await direct.config_set("maxmemory", 0)
        await direct.config_set("min-replicas-to-write", 0)
        await direct.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    assert (await limiter.forgive(ADDRESS)).count == 4


@pytest.mark.requirement(79)
@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_server_that_is_killed_or_frozen_opens_no_gate(tmp_path: Path, program: str) -> None:
    async with Server(tmp_path / "server", program=PROGRAMS[program]) as server:
        impatient: dict[str, Any] = {"connect_timeout": SECOND / 4, "command_timeout": SECOND / 4}
        async with open_client(server.url, connections=16, **impatient) as client:
            limiter = RedisRateLimiter(client, rules=RULES)
            await fail(limiter, 2, attempt())
            server.freeze()
            for call in CALLS.values():
                with pytest.raises(StoreUnavailable):
                    await call(limiter)
            server.thaw()
            await server.restart()
            # What was counted is on the disk. A script that met the freeze may have counted as well, or forgotten.
            assert (await limiter.forgive(ADDRESS)).count in {0, 2, 3}
            await limiter.count(Limit.MAILS, ADDRESS, NOW)
            server.kill()
            for call in CALLS.values():
                with pytest.raises(StoreUnavailable):
                    await call(limiter)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_count_that_too_few_replicas_have_counts(tmp_path: Path, program: str) -> None:
    async with Replicated(tmp_path, program=PROGRAMS[program]) as store, opened(store.url, wait_replicas=5) as limiter:
        last = await fail(limiter, 3, attempt())
        assert (await refused(limiter.fail(attempt(), last)))[0] is Limit.GUESSES
        assert (await limiter.succeed(attempt(ELSEWHERE), last)).count == 3
        assert await limiter.forgive(ADDRESS) == Failures()
        for _ in range(3):
            await limiter.count(Limit.MAILS, ADDRESS, NOW)
        await refused(limiter.count(Limit.MAILS, ADDRESS, NOW))
