"""Limits in memory."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import attrs
import pytest
from hypothesis import given

from pickguard.adapters.memory_limits import MemoryRateLimiter, Unlimited
from pickguard.domain.model.errors import RateLimited, StoreUnavailable
from pickguard.domain.model.limits import Failures, Limit, LimitRules, Rate
from pickguard.entrypoints.bootstrap import open_store
from pickguard.entrypoints.settings import Settings
from pickguard.testing.contracts.rate_limiter import (
    ADDRESS,
    ELSEWHERE,
    HERE,
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
from tests.support.strategies import examples


class TestMemoryRateLimiter(LimitsContract):
    @pytest.fixture
    def limiters(self) -> Limiters:
        made: dict[LimitRules, MemoryRateLimiter] = {}
        return lambda rules: made.setdefault(rules, MemoryRateLimiter(rules))


@given(history=steps)
@examples(300)
def test_any_history_goes_as_the_model_says(history: Sequence[Step]) -> None:
    asyncio.run(play(history, MemoryRateLimiter(RULES)))


async def test_what_is_refused_for_the_source_is_not_counted_for_the_account() -> None:
    limiter = MemoryRateLimiter(RULES)
    for number in range(RULES.source.most):
        await limiter.fail(attempt(address=f"user{number}@example.com"), NOW)
    for _ in range(20):
        assert (await refused(limiter.fail(attempt(), NOW)))[0] is Limit.SOURCE
    assert await limiter.forgive(ADDRESS) == Failures()


async def test_what_does_not_count_any_more_takes_no_room() -> None:
    limiter = MemoryRateLimiter(RULES)
    day, last = timedelta(days=1), NOW
    for number in range(2000):
        last = NOW + number * SECOND
        await limiter.fail(attempt(f"source {number}", address=f"user{number}@example.com"), last)
        await limiter.count(Limit.REGISTRATIONS, f"source {number}", last)
        await limiter.count(Limit.MAILS, "often" if number % 150 == 0 else f"user{number}@example.com", last)
        # The longest that anything counts are ten minutes for accounts, two for sources, one for registrations, five for mails.
        assert len(limiter) <= 600 + 120 + 60 + 300
    await limiter.check(attempt(), last + day)
    await limiter.count(Limit.MAILS, "later", last + day)
    await limiter.count(Limit.REGISTRATIONS, HERE, last + day)
    assert len(limiter) == 2


async def test_one_account_takes_bounded_room_whoever_guesses() -> None:
    limiter = MemoryRateLimiter(RULES)
    for number in range(500):  # a run never gets so long that it is refused, and is never forgotten
        now = NOW + number * 8 * timedelta(minutes=1)
        await limiter.fail(attempt(f"source {number}", known=True), now)
    tries = limiter._tries.get(ADDRESS)
    assert tries is not None
    assert len(tries.sources) <= 2


async def test_where_there_is_no_room_nobody_is_forgotten_and_the_gate_stays_shut() -> None:
    limiter = MemoryRateLimiter(RULES, capacity=3)
    last = await fail(limiter, 3, attempt())
    for number in range(2):
        await limiter.fail(attempt(ELSEWHERE, address=f"user{number}@example.com"), last)
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await limiter.fail(attempt("source 3", address="one@example.com"), last)
    with pytest.raises(RateLimited):
        await limiter.check(attempt(), last)
    await limiter.fail(attempt("source 3", address="user0@example.com"), last)
    assert await limiter.succeed(attempt("source 3", address="one@example.com"), last) == Failures()
    with pytest.raises(StoreUnavailable):  # three sources are counted
        await limiter.fail(attempt("source 4", address="user0@example.com"), last)
    assert (await limiter.forgive("user0@example.com")).count == 2
    await limiter.fail(attempt(ELSEWHERE, address="one@example.com"), last)
    for number in range(3):
        await limiter.count(Limit.MAILS, f"user{number}@example.com", last)
    with pytest.raises(StoreUnavailable):
        await limiter.count(Limit.MAILS, "one@example.com", last)
    await limiter.count(Limit.MAILS, "one@example.com", last + RULES.mails.within)


async def test_where_there_are_no_limits_nothing_is_ever_refused() -> None:
    limiter = Unlimited()
    for number in range(500):
        await limiter.check(attempt(), NOW + number * MS)
        await limiter.fail(attempt(), NOW + number * MS)
        await limiter.count(Limit.REGISTRATIONS, HERE, NOW)
    assert await limiter.succeed(attempt(), NOW) == await limiter.forgive(ADDRESS) == Failures()


async def test_the_store_in_memory_comes_with_the_limits_that_are_set() -> None:
    one = Settings(store="memory:", limit_guesses=Rate(1, 10 * SECOND))
    async with open_store(one) as store:
        await store.limits.fail(attempt(), NOW)
        assert await refused(store.limits.check(attempt(), NOW)) == (Limit.GUESSES, 10 * SECOND)
    async with open_store(attrs.evolve(one, rate_limits="off")) as store:
        for _ in range(200):
            await store.limits.fail(attempt(), NOW)
        await store.limits.check(attempt(), NOW)
