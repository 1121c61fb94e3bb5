"""What has been counted, and whether another one is too many: values in, values out."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Self

import attrs

from pickguard.domain.model.errors import RateLimited
from pickguard.domain.model.limits import Attempt, Failures, Limit, LimitRules, Rate


@attrs.frozen
class Window:
    """The moments at which something was counted, oldest first. Each counts until the span of the rate has passed since."""

    moments: tuple[datetime, ...] = ()

    def live(self, rate: Rate, now: datetime) -> tuple[datetime, ...]:
        """Return the moments that count."""
        return tuple(moment for moment in self.moments if now - moment < rate.within)

    def wait(self, rate: Rate, now: datetime) -> timedelta | None:
        """Return how long nothing more can be counted; None where one more can be."""
        live = self.live(rate, now)
        return None if len(live) < rate.most else live[-rate.most] + rate.within - now

    def add(self, rate: Rate, now: datetime) -> Self:
        """Count one more, and drop what does not count. Of several processes, one's clock may be behind another's."""
        return attrs.evolve(self, moments=tuple(sorted((*self.live(rate, now), now))))


@attrs.frozen(kw_only=True)
class FromSource:
    """The wrong passwords for one account that have come from one source."""

    recent: Window = attrs.field(factory=Window)
    run: Failures = attrs.field(factory=Failures)
    """Those since the last right password for the account, wherever that came from."""

    def counts(self, rules: LimitRules, now: datetime) -> bool:
        """Tell whether any of it counts still."""
        return bool(self.recent.live(rules.guesses, now) or run_at(self.run, rules.run, now).count)


@attrs.frozen(kw_only=True)
class Tries:
    """All that is kept of the wrong passwords for one account, whether or not it counts still."""

    run: Failures = attrs.field(factory=Failures)
    sources: tuple[FromSource, ...] = ()
    """What has come from each source. Which one that was is known only where the run says so."""


@attrs.frozen(kw_only=True)
class Standing:
    """How the wrong passwords for one account stand at one moment, to be shown to an operator."""

    run: Failures = attrs.field(factory=Failures)
    """Those since the last right one."""
    locked_for: timedelta | None = None
    """How long every attempt is still refused, but those from known sources; None where they are not."""
    sources: int = 0
    """How many sources the ones that count have come from."""
    limited_sources: int = 0
    """How many of these have reached `GUESSES`, so that every attempt from there is refused."""
    limited_for: timedelta | None = None
    """How long the last of them still is; None where there is none."""


def standing(run: Failures, sources: Iterable[FromSource], rules: LimitRules, now: datetime) -> Standing:
    """Return how the wrong passwords for an account stand: its run, and what has come from each source."""
    counting = [each for each in sources if each.counts(rules, now)]
    waiting = [wait for each in counting if (wait := each.recent.wait(rules.guesses, now)) is not None]
    run = run_at(run, rules.run, now)
    return Standing(
        run=run,
        locked_for=run.last_at + rules.run.within - now if run.last_at is not None and run.count >= rules.run.most else None,
        sources=len(counting),
        limited_sources=len(waiting),
        limited_for=max(waiting, default=None),
    )


def run_at(run: Failures, rate: Rate, now: datetime) -> Failures:
    """Return a run, or an empty one where it is forgotten: as long after its last failure as the rate says."""
    return run if run.last_at is not None and now - run.last_at < rate.within else Failures()


def lengthened(run: Failures, source: str | None, now: datetime) -> Failures:
    """Return a run with one failure more. One that comes late, from a process whose clock is behind, is not the last."""
    if run.last_at is not None and now < run.last_at:
        return attrs.evolve(run, count=run.count + 1)
    return Failures(count=run.count + 1, last_at=now, last_source=source)


def waits(
    attempt: Attempt, *, run: Failures, here: FromSource, rules: LimitRules, now: datetime
) -> Iterator[tuple[Limit, timedelta]]:
    """Return which of an account's limits, `GUESSES` and `RUN`, an attempt has reached, and for how long.

    `run` is the account's; `here` is what has come from the attempt's source, and nothing where that is not known.
    """
    guesses = here.recent.wait(rules.guesses, now)
    if guesses is not None:
        yield Limit.GUESSES, guesses
    only_here = attempt.known and attempt.source is not None
    judged = run_at(here.run if only_here else run, rules.run, now)
    if judged.last_at is not None and judged.count >= rules.run.most:
        yield Limit.RUN, judged.last_at + rules.run.within - now


def refuse(reached: Iterable[tuple[Limit, timedelta]]) -> None:
    """Raise `RateLimited` where a limit is reached: the one that lasts longest, since until then every try is refused."""
    longest = max(reached, key=lambda each: each[1], default=None)
    if longest is not None:
        limit, wait = longest
        raise RateLimited(limit, retry_after=wait)
