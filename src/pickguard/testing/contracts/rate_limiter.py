"""What every `RateLimiter` must do."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import attrs
import pytest
from hypothesis import strategies as st

from pickguard.domain.model.errors import RateLimited
from pickguard.domain.model.limits import Attempt, Failures, Limit, LimitRules, Rate
from pickguard.domain.model.tries import Standing, Tries
from pickguard.ports.limits import RateLimiter
from pickguard.testing.contracts.overriding import overridable
from pickguard.testing.fakes import NOW

MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HERE, ELSEWHERE, AFAR = "192.0.2.1", "198.51.100.7", "2001:db8:1:2::/64"
ADDRESS = "ada@example.com"
RULES = LimitRules(
    guesses=Rate(3, MINUTE),
    source=Rate(5, 2 * MINUTE),
    run=Rate(6, 10 * MINUTE),
    registrations=Rate(2, MINUTE),
    mails=Rate(3, 5 * MINUTE),
)
"""So narrow that a few failures meet each of them."""
WIDE = Rate(10_000, timedelta(hours=1))

Limiters = Callable[[LimitRules], RateLimiter]


def only(**narrow: Rate) -> LimitRules:
    """Return rules that limit nothing but what is given."""
    return LimitRules(**{name: narrow.get(name, WIDE) for name in ("guesses", "source", "run", "registrations", "mails")})


def attempt(source: str | None = HERE, *, address: str = ADDRESS, known: bool = False) -> Attempt:
    """Return one try at a password."""
    return Attempt(address=address, source=source, known=known)


async def fail(limiter: RateLimiter, times: int, tried: Attempt, now: datetime = NOW, *, apart: timedelta = SECOND) -> datetime:
    """Let an attempt fail so many times; return the moment of the last failure."""
    for number in range(times):
        await limiter.check(tried, now + number * apart)
        await limiter.fail(tried, now + number * apart)
    return now + (times - 1) * apart


async def refused(call: Awaitable[object]) -> tuple[Limit, timedelta]:
    """Return which limit refuses a call, and for how long."""
    with pytest.raises(RateLimited) as error:
        await call
    return error.value.limit, error.value.retry_after


async def all_refused(limiter: RateLimiter, tried: Attempt, now: datetime) -> tuple[Limit, timedelta]:
    """Expect one refusal of all three steps, and return it."""
    checked = await refused(limiter.check(tried, now))
    assert await refused(limiter.fail(tried, now)) == checked
    assert await refused(limiter.succeed(tried, now)) == checked
    return checked


class RateLimiterContract:
    """Tests of each limit by itself, of clocks that disagree, and of 64 calls at once. Subclass it as ``Test…``.

    Override the fixture `limiters`, which returns a function that makes a limiter of given rules. All that it makes in one test
    count together, as processes on one store do; nothing is counted before. `play` goes on from there: it holds any history
    that hypothesis draws from `steps` against a model.

    What passes counts exactly, to the millisecond, under races. What is not shown: that a count outlives a crash (it need not),
    that what is counted is forgotten by itself, and that `StoreUnavailable` is raised where the store does not answer.
    """

    @overridable
    @pytest.fixture
    def limiters(self) -> Limiters:
        """Return what makes limiters on one store, of the rules it is given."""
        raise NotImplementedError(
            f"{type(self).__name__} has to override the fixture `limiters` with a maker of limiters to test"
        )

    @pytest.fixture
    def limiter(self, limiters: Limiters) -> RateLimiter:
        """Return a limiter of narrow rules."""
        return limiters(RULES)

    # One account from one source.

    @pytest.mark.asyncio
    async def test_where_nothing_was_counted_everything_may_go_on(self, limiter: RateLimiter) -> None:
        await limiter.check(attempt(), NOW)
        assert await limiter.succeed(attempt(), NOW) == Failures()
        assert await limiter.forgive(ADDRESS) == Failures()

    @pytest.mark.asyncio
    async def test_after_as_many_guesses_as_there_may_be_another_is_refused_with_the_time_to_wait(
        self, limiter: RateLimiter
    ) -> None:
        last = await fail(limiter, 3, attempt())
        assert await all_refused(limiter, attempt(), last) == (Limit.GUESSES, MINUTE - 2 * SECOND)
        await limiter.check(attempt(ELSEWHERE), last)
        await limiter.check(attempt(address="grace@example.com"), last)

    @pytest.mark.asyncio
    async def test_the_window_slides_and_is_exact_to_the_millisecond(self, limiter: RateLimiter) -> None:
        await fail(limiter, 3, attempt())
        assert await all_refused(limiter, attempt(), NOW + MINUTE - MS) == (Limit.GUESSES, MS)
        await limiter.check(attempt(), NOW + MINUTE)
        await limiter.fail(attempt(), NOW + MINUTE)
        assert await all_refused(limiter, attempt(), NOW + MINUTE) == (Limit.GUESSES, SECOND)
        await limiter.fail(attempt(), NOW + MINUTE + SECOND)

    @pytest.mark.asyncio
    async def test_an_operator_sees_how_the_wrong_passwords_for_an_account_stand(self, limiter: RateLimiter) -> None:
        assert await limiter.review(ADDRESS, NOW) == Standing()
        last = await fail(limiter, 3, attempt())
        last = await fail(limiter, 1, attempt(ELSEWHERE), last + SECOND)
        run = Failures(count=4, last_at=last, last_source=ELSEWHERE)
        seen = Standing(run=run, sources=2, limited_sources=1, limited_for=MINUTE - 3 * SECOND)
        assert await limiter.review(ADDRESS, last) == await limiter.review(ADDRESS, last) == seen
        assert await limiter.review("grace@example.com", last) == Standing()
        last = await fail(limiter, 2, attempt(AFAR), last + SECOND)
        locked = await limiter.review(ADDRESS, last + MINUTE)
        assert locked == Standing(run=Failures(count=6, last_at=last, last_source=AFAR), locked_for=9 * MINUTE, sources=3)
        assert await limiter.review(ADDRESS, last + 10 * MINUTE) == Standing()
        await limiter.forgive(ADDRESS)
        assert await limiter.review(ADDRESS, last) == Standing()

    @pytest.mark.asyncio
    async def test_an_operator_sees_the_sources_that_a_right_password_from_elsewhere_leaves_limited(
        self, limiter: RateLimiter
    ) -> None:
        last = NOW
        for source in (ELSEWHERE, AFAR):
            last = await fail(limiter, 3, attempt(source), last + 10 * SECOND)
            await limiter.succeed(attempt(), last)
        seen = await limiter.review(ADDRESS, last)
        assert seen == Standing(sources=2, limited_sources=2, limited_for=MINUTE - 2 * SECOND)

    @pytest.mark.asyncio
    async def test_a_run_is_forgotten_by_itself_though_its_guesses_count_still(self, limiters: Limiters) -> None:
        limiter = limiters(only(guesses=Rate(10, 10 * MINUTE), run=Rate(3, MINUTE)))
        last = await fail(limiter, 2, attempt())
        last = await fail(limiter, 1, attempt(), last + 2 * MINUTE)
        assert (await limiter.review(ADDRESS, last)).run == Failures(count=1, last_at=last, last_source=HERE)
        assert await limiter.succeed(attempt(), last + 2 * MINUTE) == Failures()

    @pytest.mark.asyncio
    async def test_what_is_refused_is_not_counted(self, limiters: Limiters) -> None:
        limiter = limiters(only(guesses=Rate(3, MINUTE)))
        await fail(limiter, 3, attempt())
        for number in range(20):
            await refused(limiter.fail(attempt(), NOW + 3 * SECOND + number * MS))
        await fail(limiter, 3, attempt(), NOW + MINUTE)
        assert (await limiter.succeed(attempt(), NOW + 2 * MINUTE)).count == 6

    @pytest.mark.asyncio
    async def test_a_right_password_is_not_counted_and_lets_another_run_begin(self, limiter: RateLimiter) -> None:
        for number in range(4):
            now = NOW + number * 3 * MINUTE
            last = await fail(limiter, 2, attempt(), now)
            run = await limiter.succeed(attempt(), last)
            assert run == Failures(count=2, last_at=last, last_source=HERE)
            for _ in range(20):
                assert await limiter.succeed(attempt(), last) == Failures()

    @pytest.mark.asyncio
    async def test_a_right_password_does_not_reset_what_others_have_guessed(self, limiter: RateLimiter) -> None:
        await fail(limiter, 3, attempt(ELSEWHERE))
        assert (await limiter.succeed(attempt(), NOW + 3 * SECOND)).last_source == ELSEWHERE
        assert (await all_refused(limiter, attempt(ELSEWHERE), NOW + 3 * SECOND))[0] is Limit.GUESSES
        await limiter.check(attempt(ELSEWHERE), NOW + MINUTE)

    # One source, all accounts.

    @pytest.mark.asyncio
    async def test_failures_from_one_source_count_over_all_accounts_known_or_not(self, limiter: RateLimiter) -> None:
        for number in range(5):
            await limiter.fail(attempt(address=f"user{number}@example.com", known=number == 0), NOW + number * SECOND)
        for tried in (attempt(), attempt(known=True), attempt(address="whatever")):
            found = await refused(limiter.check(tried, NOW + 5 * SECOND))
            assert found == await refused(limiter.succeed(tried, NOW + 5 * SECOND)) == (Limit.SOURCE, 2 * MINUTE - 5 * SECOND)
        assert (await refused(limiter.fail(attempt(), NOW + 5 * SECOND)))[0] is Limit.SOURCE
        await limiter.check(attempt(ELSEWHERE), NOW + 5 * SECOND)
        await limiter.check(attempt(), NOW + 2 * MINUTE)

    @pytest.mark.asyncio
    async def test_a_right_password_does_not_reset_what_is_counted_for_the_source(self, limiter: RateLimiter) -> None:
        # Or an attacker would log in to an account of their own after every fourth guess at another.
        for number in range(5):
            await limiter.fail(attempt(address=f"user{number}@example.com"), NOW)
            if number < 4:
                await limiter.succeed(attempt(address=f"user{number}@example.com"), NOW)
        assert (await refused(limiter.check(attempt(), NOW)))[0] is Limit.SOURCE
        await limiter.forgive("user1@example.com")
        assert (await refused(limiter.check(attempt(), NOW)))[0] is Limit.SOURCE

    # One account, all sources.

    @pytest.mark.asyncio
    async def test_a_run_of_failures_from_anywhere_shuts_out_all_who_are_not_known(self, limiter: RateLimiter) -> None:
        for number in range(6):
            await limiter.fail(attempt(f"198.51.100.{number}"), NOW + number * SECOND)
        now = NOW + 5 * SECOND
        for source in ("198.51.100.1", HERE, AFAR, None):
            assert await all_refused(limiter, attempt(source), now) == (Limit.RUN, 10 * MINUTE)
        await limiter.check(attempt(address="grace@example.com"), now)

    @pytest.mark.asyncio
    async def test_a_run_is_forgotten_so_long_after_its_last_failure(self, limiter: RateLimiter) -> None:
        # Each comes just before the one before would have been forgotten.
        last = await fail(limiter, 6, attempt(), apart=10 * MINUTE - MS)
        assert await all_refused(limiter, attempt(), last + 10 * MINUTE - MS) == (Limit.RUN, MS)
        await limiter.check(attempt(), last + 10 * MINUTE)
        assert await limiter.succeed(attempt(), last + 10 * MINUTE) == Failures()

    @pytest.mark.asyncio
    async def test_a_forgotten_run_begins_anew(self, limiter: RateLimiter) -> None:
        await fail(limiter, 3, attempt())
        later = NOW + 2 * SECOND + 10 * MINUTE
        await limiter.fail(attempt(ELSEWHERE), later)
        assert await limiter.succeed(attempt(), later) == Failures(count=1, last_at=later, last_source=ELSEWHERE)

    @pytest.mark.asyncio
    async def test_a_known_source_gets_in_although_others_have_used_up_the_run(self, limiter: RateLimiter) -> None:
        for number in range(6):
            await limiter.fail(attempt(f"198.51.100.{number}"), NOW)
        owner = attempt(known=True)
        await limiter.check(owner, NOW)
        await limiter.fail(owner, NOW + SECOND)
        run = await limiter.succeed(owner, NOW + 2 * SECOND)
        assert run == Failures(count=7, last_at=NOW + SECOND, last_source=HERE)
        await limiter.check(attempt(AFAR), NOW + 2 * SECOND)

    @pytest.mark.asyncio
    async def test_a_known_source_has_a_run_of_its_own_and_the_account_counts_it_too(self, limiters: Limiters) -> None:
        limiter = limiters(only(run=Rate(6, 10 * MINUTE)))
        owner = attempt(known=True)
        last = await fail(limiter, 6, owner)
        assert await all_refused(limiter, owner, last) == (Limit.RUN, 10 * MINUTE)
        assert await all_refused(limiter, attempt(), last) == (Limit.RUN, 10 * MINUTE)
        assert await all_refused(limiter, attempt(ELSEWHERE), last) == (Limit.RUN, 10 * MINUTE)
        other = attempt(AFAR, known=True)
        after = await fail(limiter, 6, other, last + MINUTE)
        assert await all_refused(limiter, other, after) == (Limit.RUN, 10 * MINUTE)
        assert await all_refused(limiter, owner, after) == (Limit.RUN, 10 * MINUTE - (after - last))
        now = await fail(limiter, 2, owner, last + 10 * MINUTE)  # its own run is forgotten, the account's is not
        assert (await limiter.succeed(owner, now)).count == 14

    @pytest.mark.asyncio
    async def test_the_own_run_of_a_known_source_counts_what_came_from_there_before_it_was_known(
        self, limiters: Limiters
    ) -> None:
        limiter = limiters(only(run=Rate(6, 10 * MINUTE)))
        last = await fail(limiter, 6, attempt())
        assert (await all_refused(limiter, attempt(known=True), last))[0] is Limit.RUN

    @pytest.mark.asyncio
    async def test_a_right_password_ends_the_runs_of_all_sources(self, limiters: Limiters) -> None:
        limiter = limiters(only(run=Rate(6, 10 * MINUTE)))
        owner, other = attempt(known=True), attempt(AFAR, known=True)
        await fail(limiter, 5, other)
        await fail(limiter, 1, owner, NOW + MINUTE)
        assert (await limiter.succeed(owner, NOW + MINUTE)).count == 6
        last = await fail(limiter, 5, other, NOW + MINUTE)
        await limiter.check(other, last)

    @pytest.mark.asyncio
    async def test_known_sources_are_limited_in_their_guesses_as_ever(self, limiter: RateLimiter) -> None:
        last = await fail(limiter, 3, attempt(known=True))
        assert (await all_refused(limiter, attempt(known=True), last))[0] is Limit.GUESSES

    @pytest.mark.asyncio
    async def test_without_a_source_only_the_run_counts_known_or_not(self, limiter: RateLimiter) -> None:
        last = await fail(limiter, 6, attempt(None, known=True))
        assert await all_refused(limiter, attempt(None), last) == (Limit.RUN, 10 * MINUTE)
        assert await all_refused(limiter, attempt(None, known=True), last) == (Limit.RUN, 10 * MINUTE)
        assert await limiter.succeed(attempt(HERE, known=True), last) == Failures(count=6, last_at=last)

    @pytest.mark.asyncio
    async def test_of_several_limits_that_which_lasts_longest_is_named(self, limiters: Limiters) -> None:
        rules = {"guesses": Rate(3, MINUTE), "source": Rate(3, MINUTE), "run": Rate(3, MINUTE)}
        for name in rules:
            limiter = limiters(only(**{**rules, name: Rate(3, 2 * MINUTE)}))
            tried = attempt(f"source of {name}", address=f"{name}@example.com")
            await fail(limiter, 3, tried, apart=MS)
            expected = (Limit(name), 2 * MINUTE - (0 * MS if name == "run" else 2 * MS))
            assert await refused(limiter.check(tried, NOW + 2 * MS)) == expected
            if name != "source":  # which an adapter may judge apart from the account
                assert await all_refused(limiter, tried, NOW + 2 * MS) == expected

    # Forgiveness.

    @pytest.mark.asyncio
    async def test_forgiving_forgets_the_guesses_and_the_run_from_everywhere(self, limiter: RateLimiter) -> None:
        await fail(limiter, 3, attempt())
        last = await fail(limiter, 3, attempt(ELSEWHERE), NOW + MS)
        assert (await all_refused(limiter, attempt(AFAR), last))[0] is Limit.RUN
        assert await limiter.forgive(ADDRESS) == Failures(count=6, last_at=last, last_source=ELSEWHERE)
        assert await limiter.forgive(ADDRESS) == Failures()
        for source in (HERE, ELSEWHERE, AFAR):
            await limiter.check(attempt(source), last)

    @pytest.mark.asyncio
    async def test_forgiving_one_account_leaves_the_others_alone(self, limiter: RateLimiter) -> None:
        last = await fail(limiter, 3, attempt())
        assert await limiter.forgive("grace@example.com") == Failures()
        await refused(limiter.check(attempt(), last))

    # Whatever is typed.

    @pytest.mark.parametrize("address", ["nobody@example.com", "", "no address", "\ud800", "a\x00b\n", "ü" * 2000, ":", "{x}"])
    @pytest.mark.asyncio
    async def test_whatever_is_typed_as_an_address_is_limited_like_an_address(self, limiter: RateLimiter, address: str) -> None:
        last = await fail(limiter, 3, attempt(address=address))
        assert await all_refused(limiter, attempt(address=address), last) == (Limit.GUESSES, MINUTE - 2 * SECOND)
        assert (await limiter.forgive(address)).count == 3

    @pytest.mark.parametrize("source", ["", "unix:", "\udcff", "a\x00b", "fe80::/64"])
    @pytest.mark.asyncio
    async def test_whatever_a_source_is_it_is_limited(self, limiter: RateLimiter, source: str) -> None:
        last = await fail(limiter, 3, attempt(source))
        assert (await all_refused(limiter, attempt(source), last))[0] is Limit.GUESSES
        assert ((await limiter.forgive(ADDRESS)).last_source or "") == source

    @pytest.mark.asyncio
    async def test_names_that_begin_alike_are_counted_apart(self, limiter: RateLimiter) -> None:
        last = await fail(limiter, 3, attempt("a", address="b"))
        for tried in (attempt("ab", address=""), attempt("", address="ab"), attempt("b", address="a")):
            await limiter.check(tried, last)

    # Other things that are counted.

    @pytest.mark.parametrize("limit", [Limit.REGISTRATIONS, Limit.MAILS])
    @pytest.mark.asyncio
    async def test_other_things_are_counted_by_their_subject(self, limiter: RateLimiter, limit: Limit) -> None:
        rate = RULES.of(limit)
        for number in range(rate.most):
            await limiter.count(limit, "subject", NOW + number * SECOND)
        last = NOW + rate.within - MS
        for _ in range(5):
            assert await refused(limiter.count(limit, "subject", last)) == (limit, MS)
        await limiter.count(limit, "another", last)
        await limiter.count(limit, "subject", last + MS)
        assert await refused(limiter.count(limit, "subject", last + MS)) == (limit, SECOND)

    @pytest.mark.asyncio
    async def test_what_is_kept_can_be_read_and_reading_counts_nothing(self, limiter: RateLimiter) -> None:
        assert await limiter.read_tries(ADDRESS) == Tries()
        assert await limiter.read_count(Limit.EXPORTS, "somebody") == ()
        await fail(limiter, 2, attempt())
        await fail(limiter, 1, attempt(ELSEWHERE), NOW + MINUTE / 2)
        for _ in range(2):
            tries = await limiter.read_tries(ADDRESS)
            assert tries.run == Failures(count=3, last_at=NOW + MINUTE / 2, last_source=ELSEWHERE)
            assert sorted((each.run.count, each.recent.moments) for each in tries.sources) == [
                (1, (NOW + MINUTE / 2,)),
                (2, (NOW, NOW + SECOND)),
            ]
        assert await limiter.read_tries("grace@example.com") == Tries()
        await limiter.check(attempt(), NOW + MINUTE / 2)
        await limiter.count(Limit.EXPORTS, "somebody", NOW)
        await limiter.count(Limit.EXPORTS, "somebody", NOW + SECOND)
        for _ in range(2):
            assert await limiter.read_count(Limit.EXPORTS, "somebody") == (NOW, NOW + SECOND)
        assert await limiter.read_count(Limit.MAILS, "somebody") == ()
        await limiter.forgive(ADDRESS)
        assert await limiter.read_tries(ADDRESS) == Tries()

    @pytest.mark.asyncio
    async def test_limits_of_one_subject_are_counted_apart(self, limiter: RateLimiter) -> None:
        for _ in range(2):
            await limiter.count(Limit.REGISTRATIONS, HERE, NOW)
        for _ in range(3):
            await limiter.count(Limit.MAILS, HERE, NOW)
        await fail(limiter, 3, attempt(HERE, address=HERE), apart=MS)
        assert (await limiter.forgive(HERE)).count == 3
        assert (await refused(limiter.count(Limit.REGISTRATIONS, HERE, NOW)))[0] is Limit.REGISTRATIONS
        assert (await refused(limiter.count(Limit.MAILS, HERE, NOW)))[0] is Limit.MAILS

    # Clocks of several processes.

    @pytest.mark.asyncio
    async def test_a_process_whose_clock_is_behind_counts_as_well(self, limiters: Limiters) -> None:
        rules = only(guesses=Rate(3, MINUTE), registrations=Rate(3, MINUTE))
        ahead, behind = limiters(rules), limiters(rules)
        await ahead.fail(attempt(), NOW + 2 * SECOND)
        await behind.fail(attempt(), NOW)
        await ahead.fail(attempt(), NOW + SECOND)
        assert await all_refused(behind, attempt(), NOW) == (Limit.GUESSES, MINUTE)
        assert await refused(ahead.check(attempt(), NOW + 3 * SECOND)) == (Limit.GUESSES, MINUTE - 3 * SECOND)
        assert await ahead.succeed(attempt(ELSEWHERE), NOW + 3 * SECOND) == Failures(
            count=3, last_at=NOW + 2 * SECOND, last_source=HERE
        )
        for moment in (2, 0, 1):
            await behind.count(Limit.REGISTRATIONS, HERE, NOW + moment * SECOND)
        assert await refused(ahead.count(Limit.REGISTRATIONS, HERE, NOW)) == (Limit.REGISTRATIONS, MINUTE)

    # Many at once. All wait behind a barrier, on two limiters as two processes would have them.

    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize("limit", [Limit.GUESSES, Limit.SOURCE, Limit.RUN])
    @pytest.mark.asyncio
    async def test_of_64_guesses_at_once_no_more_pass_than_one_after_another(
        self,
        limiters: Limiters,
        limit: Limit,
        known: bool,  # noqa: FBT001 (a parameter of the test)
    ) -> None:
        rules = only(**{limit.value: Rate(10, MINUTE)})
        first, second = limiters(rules), limiters(rules)
        tried = attempt(known=known)
        barrier = asyncio.Barrier(64)

        async def guess(limiter: RateLimiter) -> Limit | None:
            await limiter.check(tried, NOW)
            await barrier.wait()  # all were let through before any was counted
            try:
                await limiter.fail(tried, NOW)
            except RateLimited as error:
                return error.limit
            return None

        outcomes = await asyncio.gather(*(guess((first, second)[number % 2]) for number in range(64)))
        assert Counter(outcomes) == {None: 10, limit: 54}
        assert (await refused(first.check(tried, NOW)))[0] is limit

    @pytest.mark.asyncio
    async def test_a_right_password_among_many_guesses_passes_only_within_the_limit(self, limiters: Limiters) -> None:
        rules = only(guesses=Rate(10, MINUTE))
        first, second = limiters(rules), limiters(rules)
        barrier = asyncio.Barrier(65)
        order: list[bool] = []

        async def guess(limiter: RateLimiter) -> None:
            await barrier.wait()
            try:
                await limiter.fail(attempt(), NOW)
            except RateLimited:
                return
            order.append(True)

        async def know() -> Failures | None:
            await barrier.wait()
            try:
                return await first.succeed(attempt(), NOW)
            except RateLimited:
                return None

        run, *_ = await asyncio.gather(know(), *(guess((first, second)[number % 2]) for number in range(64)))
        # If it came within the first ten, the guesses after it began to count anew, and ten more of them passed.
        assert len(order) == (10 if run is None else run.count + 10)
        assert run is None or run.count < 10

    @pytest.mark.parametrize("limit", [Limit.REGISTRATIONS, Limit.MAILS])
    @pytest.mark.asyncio
    async def test_of_64_things_at_once_as_many_are_counted_as_may_be(self, limiters: Limiters, limit: Limit) -> None:
        rules = only(registrations=Rate(10, MINUTE), mails=Rate(10, MINUTE))
        pair = limiters(rules), limiters(rules)
        barrier = asyncio.Barrier(64)

        async def count(limiter: RateLimiter) -> None:
            await barrier.wait()
            await limiter.count(limit, "subject", NOW)

        outcomes = await asyncio.gather(*(count(pair[number % 2]) for number in range(64)), return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 10
        assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 54

    @pytest.mark.asyncio
    async def test_of_many_who_succeed_at_once_one_is_told_the_run(self, limiters: Limiters) -> None:
        limiter, other = limiters(RULES), limiters(RULES)
        await fail(limiter, 2, attempt())
        runs = await asyncio.gather(*((limiter, other)[number % 2].succeed(attempt(), NOW + MINUTE) for number in range(16)))
        assert sorted(run.count for run in runs) == [0] * 15 + [2]


# Any history, beside a model of it: lists of what failed when, and nothing is ever dropped from them.


@attrs.frozen(kw_only=True)
class Step:
    """Something that happens some time after what was before it."""

    wait: timedelta
    does: str
    attempt: Attempt


steps = st.lists(
    st.builds(
        Step,
        wait=st.sampled_from([0 * MS, MS, SECOND, 20 * SECOND, MINUTE - MS, MINUTE, 2 * MINUTE, 10 * MINUTE - MS, 10 * MINUTE]),
        does=st.sampled_from(["fail", "fail", "fail", "fail", "fail", "succeed", "forgive", "register"]),
        attempt=st.builds(
            Attempt,
            address=st.sampled_from([ADDRESS, "nobody"]),
            source=st.sampled_from([HERE, HERE, ELSEWHERE, None]),
            known=st.booleans(),
        ),
    ),
    max_size=40,
)


@attrs.define
class Model:
    """What has failed, by address and source, and since which failure each account's run and guesses count."""

    failures: list[tuple[datetime, Attempt]] = attrs.field(factory=list)
    registered: dict[str | None, list[datetime]] = attrs.field(factory=dict)
    run_from: dict[str, int] = attrs.field(factory=dict)
    guesses_from: dict[tuple[str, str | None], int] = attrs.field(factory=dict)

    def reached(self, tried: Attempt, now: datetime) -> Iterator[tuple[Limit, timedelta]]:
        """Return the limits that an attempt has reached, and for how long."""
        if tried.source is not None:
            since = self.guesses_from.get((tried.address, tried.source), 0)
            pair = [at for at, each in self.failures[since:] if (each.address, each.source) == (tried.address, tried.source)]
            yield from self.full(Limit.GUESSES, pair, now)
            yield from self.full(Limit.SOURCE, [at for at, each in self.failures if each.source == tried.source], now)
        run = self.run(tried.address, now, tried.source if tried.known else None)
        if len(run) >= RULES.run.most:
            yield Limit.RUN, run[-1][0] + RULES.run.within - now

    def full(self, limit: Limit, moments: Iterable[datetime], now: datetime) -> Iterator[tuple[Limit, timedelta]]:
        """Return a limit of what was counted at these moments, if it is reached."""
        rate = RULES.of(limit)
        live = [at for at in moments if now - at < rate.within]
        if len(live) >= rate.most:
            yield limit, live[-rate.most] + rate.within - now

    def run(self, address: str, now: datetime, source: str | None = None) -> list[tuple[datetime, str | None]]:
        """Return the account's run; of a source, if one is given, only what came from there."""
        found: list[tuple[datetime, str | None]] = []
        for at, each in self.failures[self.run_from.get(address, 0) :]:
            if each.address == address and source in {None, each.source}:
                if found and at - found[-1][0] >= RULES.run.within:
                    found.clear()
                found.append((at, each.source))
        return found if found and now - found[-1][0] < RULES.run.within else []

    def forget(self, address: str, sources: Iterable[str | None]) -> None:
        """Let the account's run begin anew, and the guesses from these sources."""
        self.run_from[address] = len(self.failures)
        self.guesses_from.update({(address, source): len(self.failures) for source in sources})


async def play(history: Sequence[Step], limiter: RateLimiter) -> None:
    """Let a history happen, and expect of each step what the model expects."""
    model, now = Model(), NOW
    for step in history:
        now += step.wait
        tried = step.attempt
        if step.does == "register":
            subject = tried.source or ""
            await expect(list(model.full(Limit.REGISTRATIONS, model.registered.get(subject, []), now)), limiter, subject, now)
            if not list(model.full(Limit.REGISTRATIONS, model.registered.get(subject, []), now)):
                model.registered.setdefault(subject, []).append(now)
            continue
        run = model.run(tried.address, now)
        failures = Failures(count=len(run), last_at=run[-1][0], last_source=run[-1][1]) if run else Failures()
        if step.does == "forgive":
            forgiven = await limiter.forgive(tried.address)
            assert forgiven == failures or not run  # without a clock it may tell of a run that is just forgotten
            model.forget(tried.address, [HERE, ELSEWHERE, None])
            continue
        reached = sorted(model.reached(tried, now), key=lambda each: each[1])
        if reached:
            limit, wait = await refused(limiter.check(tried, now))
            assert (limit, wait) in reached
            assert wait == reached[-1][1]
            await refused(limiter.succeed(tried, now))
            continue
        await limiter.check(tried, now)
        if step.does == "fail":
            await limiter.fail(tried, now)
            model.failures.append((now, tried))
        else:
            assert await limiter.succeed(tried, now) == failures
            model.forget(tried.address, [tried.source])


async def expect(reached: Sequence[tuple[Limit, timedelta]], limiter: RateLimiter, subject: str, now: datetime) -> None:
    """Register from a source, and expect to be refused where its limit is reached."""
    if reached:
        assert [await refused(limiter.count(Limit.REGISTRATIONS, subject, now))] == reached
    else:
        await limiter.count(Limit.REGISTRATIONS, subject, now)
