"""Limits that one process counts by itself, and none at all.

For unit tests, other services' tests, and a service of one process on a store in memory. No method waits for anything between
reading and writing, so each is atomic among the tasks of one event loop; it is not for use from several threads.
"""

from collections import OrderedDict
from datetime import datetime
from typing import Final, Generic, TypeVar

import attrs

from pickguard.domain.model.errors import StoreUnavailable
from pickguard.domain.model.limits import Attempt, Failures, Limit, LimitRules
from pickguard.domain.model.tries import (
    FromSource,
    Standing,
    Tries,
    Window,
    lengthened,
    refuse,
    run_at,
    standing,
    waits,
)

CAPACITY: Final = 250_000
"""How many accounts, and how many subjects of each other limit, can be counted at once.

A flood of unknown addresses takes about a kilobyte for each, with its source. An account that as many sources have guessed at
as a run allows takes a hundred times as much.
"""

COUNTED: Final[tuple[Limit, ...]] = tuple(limit for limit in Limit if limit not in {Limit.GUESSES, Limit.RUN})
"""What is counted by itself, and not with the tries at an account."""

_Counted = TypeVar("_Counted")


@attrs.frozen(kw_only=True)
class _Tries:
    """The wrong passwords for one account."""

    run: Failures = attrs.field(factory=Failures)
    sources: dict[str, FromSource] = attrs.field(factory=dict)

    def here(self, attempt: Attempt) -> FromSource:
        return FromSource() if attempt.source is None else self.sources.get(attempt.source, FromSource())


class _Ledger(Generic[_Counted]):
    """What is counted under one limit, by subject, each with the moment at which it can be forgotten.

    The order is that of the last additions. Everything lives equally long from then on, so what can be forgotten comes first,
    and all the forgetting there is costs no more than the adding did.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[datetime, _Counted]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, subject: str) -> _Counted | None:
        entry = self._entries.get(subject)
        return None if entry is None else entry[1]

    def forget(self, now: datetime) -> None:
        """Drop what can be forgotten."""
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            self._entries.popitem(last=False)

    def check_room(self, subject: str) -> None:
        """Return if something can be added for a subject. Raises `StoreUnavailable` if not."""
        if len(self._entries) >= self._capacity and subject not in self._entries:
            raise StoreUnavailable("too much is being counted in memory; a store in Redis has room for more")

    def add(self, subject: str, counted: _Counted, *, until: datetime) -> None:
        self._entries[subject] = until, counted
        self._entries.move_to_end(subject)

    def replace(self, subject: str, counted: _Counted) -> None:
        """Set less in the place of what is there; it is not kept longer for that."""
        self._entries[subject] = self._entries[subject][0], counted

    def pop(self, subject: str) -> _Counted | None:
        entry = self._entries.pop(subject, None)
        return None if entry is None else entry[1]


class MemoryRateLimiter:
    """A `RateLimiter` that keeps nothing beyond its own life.

    What is counted is forgotten when its time is over, as calls go on. Where as much is counted at once as `capacity` says, for
    accounts or for one of the other limits, what would need more room is a `StoreUnavailable`, as on a Redis whose memory is
    full. To forget somebody's count in its place would open the gate to whoever can fill it. A right password needs no room.
    """

    def __init__(self, rules: LimitRules | None = None, *, capacity: int = CAPACITY) -> None:
        self._rules = rules or LimitRules()
        self._tries = _Ledger[_Tries](capacity)
        self._windows = {limit: _Ledger[Window](capacity) for limit in COUNTED}

    def __len__(self) -> int:
        """Return how many accounts and other subjects something is counted for."""
        return len(self._tries) + sum(map(len, self._windows.values()))

    async def check(self, attempt: Attempt, now: datetime) -> None:
        """See `RateLimiter.check`."""
        self._judge(attempt, now)

    async def fail(self, attempt: Attempt, now: datetime) -> None:
        """See `RateLimiter.fail`. What is refused is counted under none of the limits."""
        tries, rules = self._judge(attempt, now), self._rules
        self._tries.check_room(attempt.address)
        if attempt.source is not None:
            self._count(Limit.SOURCE, attempt.source, now)
        sources = {source: here for source, here in tries.sources.items() if here.counts(rules, now)}
        if attempt.source is not None:
            here = tries.here(attempt)
            sources[attempt.source] = FromSource(
                recent=here.recent.add(rules.guesses, now),
                run=lengthened(run_at(here.run, rules.run, now), attempt.source, now),
            )
        run = lengthened(run_at(tries.run, rules.run, now), attempt.source, now)
        until = now + max(rules.guesses.within, rules.run.within)
        self._tries.add(attempt.address, _Tries(run=run, sources=sources), until=until)

    async def succeed(self, attempt: Attempt, now: datetime) -> Failures:
        """See `RateLimiter.succeed`."""
        tries = self._judge(attempt, now)
        left = {
            source: attrs.evolve(here, run=Failures())
            for source, here in tries.sources.items()
            if source != attempt.source and here.recent.live(self._rules.guesses, now)
        }
        if left:
            self._tries.replace(attempt.address, _Tries(sources=left))
        else:
            self._tries.pop(attempt.address)
        return run_at(tries.run, self._rules.run, now)

    async def forgive(self, address: str) -> Failures:
        """See `RateLimiter.forgive`."""
        tries = self._tries.pop(address)
        return Failures() if tries is None else tries.run

    async def review(self, address: str, now: datetime) -> Standing:
        """See `RateLimiter.review`."""
        tries = self._tries.get(address) or _Tries()
        return standing(tries.run, tries.sources.values(), self._rules, now)

    async def count(self, limit: Limit, subject: str, now: datetime) -> None:
        """See `RateLimiter.count`."""
        wait = self._window(limit, subject, now).wait(self._rules.of(limit), now)
        if wait is not None:
            refuse([(limit, wait)])
        self._count(limit, subject, now)

    async def read_tries(self, address: str) -> Tries:
        """See `RateLimiter.read_tries`."""
        tries = self._tries.get(address) or _Tries()
        return Tries(run=tries.run, sources=tuple(tries.sources.values()))

    async def read_count(self, limit: Limit, subject: str) -> tuple[datetime, ...]:
        """See `RateLimiter.read_count`."""
        return (self._windows[limit].get(subject) or Window()).moments

    def _judge(self, attempt: Attempt, now: datetime) -> _Tries:
        """Return what is counted for an account. Raises `RateLimited`."""
        self._tries.forget(now)
        tries = self._tries.get(attempt.address) or _Tries()
        reached = list(waits(attempt, run=tries.run, here=tries.here(attempt), rules=self._rules, now=now))
        if attempt.source is not None:
            wait = self._window(Limit.SOURCE, attempt.source, now).wait(self._rules.source, now)
            if wait is not None:
                reached.append((Limit.SOURCE, wait))
        refuse(reached)
        return tries

    def _window(self, limit: Limit, subject: str, now: datetime) -> Window:
        self._windows[limit].forget(now)
        return self._windows[limit].get(subject) or Window()

    def _count(self, limit: Limit, subject: str, now: datetime) -> None:
        ledger, rate = self._windows[limit], self._rules.of(limit)
        ledger.check_room(subject)
        ledger.add(subject, self._window(limit, subject, now).add(rate, now), until=now + rate.within)


class Unlimited:
    """A `RateLimiter` that counts nothing and refuses nobody."""

    async def check(self, attempt: Attempt, now: datetime) -> None:
        """See `RateLimiter.check`."""

    async def fail(self, attempt: Attempt, now: datetime) -> None:
        """See `RateLimiter.fail`."""

    async def succeed(self, attempt: Attempt, now: datetime) -> Failures:  # noqa: ARG002 (nothing has been counted)
        """See `RateLimiter.succeed`."""
        return Failures()

    async def forgive(self, address: str) -> Failures:  # noqa: ARG002
        """See `RateLimiter.forgive`."""
        return Failures()

    async def review(self, address: str, now: datetime) -> Standing:  # noqa: ARG002
        """See `RateLimiter.review`."""
        return Standing()

    async def count(self, limit: Limit, subject: str, now: datetime) -> None:
        """See `RateLimiter.count`."""

    async def read_tries(self, address: str) -> Tries:  # noqa: ARG002
        """See `RateLimiter.read_tries`."""
        return Tries()

    async def read_count(self, limit: Limit, subject: str) -> tuple[datetime, ...]:  # noqa: ARG002
        """See `RateLimiter.read_count`."""
        return ()
