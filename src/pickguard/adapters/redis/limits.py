"""Limits on Redis or Valkey, counted for all processes together: strings that the server forgets by itself."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final, cast

from pickguard.adapters.redis.accounts import DEFAULT_PREFIX
from pickguard.adapters.redis.commands import FAILURES, Client, Commands, UnderReplicatedError, unavailable
from pickguard.adapters.redis.encoding import (
    UnreadableError,
    decode_limit,
    decode_run,
    decode_sources,
    decode_tries,
    encode_source,
    limit_key,
    milliseconds,
    source_digest,
    tries_key,
)
from pickguard.adapters.redis.scripts import COUNT, FAIL, FORGIVE, SUCCEED, Script
from pickguard.domain.model.errors import RateLimited
from pickguard.domain.model.limits import Attempt, Failures, Limit, LimitRules, Rate
from pickguard.domain.model.tries import Standing, Tries, refuse, standing, waits

_MILLISECOND: Final = timedelta(milliseconds=1)
_LIMITS: Final = (None, Limit.GUESSES, Limit.RUN)
"""What the scripts' numbers of limits stand for."""


class RedisRateLimiter:
    """A `RateLimiter` on a client as `RedisAccounts` has it. Windows go by the callers' clocks, to the millisecond.

    All that is counted for an account is one key, which one script judges and changes; what is counted for a source over all
    accounts is another. So a failure that the account's limits let pass and the source's refuses has been counted for the
    account. A count whose answer was lost is not sent again, since it may have been made. One that was made and that too few
    replicas have confirmed is as good as any: a fail-over may forget it.
    """

    def __init__(self, client: Client, *, prefix: str = DEFAULT_PREFIX, rules: LimitRules | None = None) -> None:
        self._commands = Commands(client)
        self._prefix = prefix
        self._rules = rules or LimitRules()

    async def check(self, attempt: Attempt, now: datetime) -> None:
        """See `RateLimiter.check`. Reads two keys at most, in one round trip."""
        await self._look(attempt, now)

    async def fail(self, attempt: Attempt, now: datetime) -> None:
        """See `RateLimiter.fail`."""
        source = encode_source(attempt.source)
        _refuse(await self._once(FAIL, tries_key(self._prefix, attempt.address), *self._arguments(attempt, now), source))
        if attempt.source is not None:
            await self.count(Limit.SOURCE, attempt.source, now)

    async def succeed(self, attempt: Attempt, now: datetime) -> Failures:
        """See `RateLimiter.succeed`. Where nothing was counted for the account, the two keys are read, and that is all."""
        if await self._look(attempt, now) is None:
            return Failures()
        key = tries_key(self._prefix, attempt.address)
        answer = await self._repeatable(SUCCEED, key, *self._arguments(attempt, now))
        _refuse(answer)
        return decode_run(*answer[2:])

    async def forgive(self, address: str) -> Failures:
        """See `RateLimiter.forgive`."""
        key = tries_key(self._prefix, address)
        if (tries := await self._commands.ask("GET", key)) is None:
            return Failures()
        decode_tries(tries, None)  # what cannot be read is left as it is
        try:
            tries = await self._commands.repeatable(FORGIVE, key)
        except UnderReplicatedError as error:
            tries = error.answer
        return Failures() if tries is None else decode_tries(tries, None)[0]

    async def review(self, address: str, now: datetime) -> Standing:
        """See `RateLimiter.review`. Reads one key."""
        tries = await self._commands.ask("GET", tries_key(self._prefix, address))
        if tries is None:
            return Standing()
        run, _ = decode_tries(tries, None)
        return standing(run, decode_sources(tries), self._rules, now)

    async def count(self, limit: Limit, subject: str, now: datetime) -> None:
        """See `RateLimiter.count`."""
        rate = self._rules.of(limit)
        wait = await self._once(COUNT, limit_key(self._prefix, limit, subject), milliseconds(now), *_in_milliseconds(rate))
        if wait:
            raise RateLimited(limit, retry_after=wait * _MILLISECOND)

    async def read_tries(self, address: str) -> Tries:
        """See `RateLimiter.read_tries`. Of sources only digests are stored."""
        record = await self._commands.ask("GET", tries_key(self._prefix, address))
        if record is None:
            return Tries()
        run, _ = decode_tries(record, None)
        return Tries(run=run, sources=tuple(decode_sources(record)))

    async def read_count(self, limit: Limit, subject: str) -> tuple[datetime, ...]:
        """See `RateLimiter.read_count`."""
        record = await self._commands.ask("GET", limit_key(self._prefix, limit, subject))
        return () if record is None else decode_limit(record).moments

    async def _look(self, attempt: Attempt, now: datetime) -> bytes | None:
        """Return what is counted for an account. Raises `RateLimited`."""
        reading = [self._commands.ask("GET", tries_key(self._prefix, attempt.address))]
        if attempt.source is not None:
            reading.append(self._commands.ask("GET", limit_key(self._prefix, Limit.SOURCE, attempt.source)))
        tries, *counted = await asyncio.gather(*reading)
        reached: list[tuple[Limit, timedelta]] = []
        if tries is not None:
            run, here = decode_tries(tries, attempt.source)
            reached += waits(attempt, run=run, here=here, rules=self._rules, now=now)
        for record in counted:
            if record is not None and (wait := decode_limit(record).wait(self._rules.source, now)) is not None:
                reached.append((Limit.SOURCE, wait))
        refuse(reached)
        return cast("bytes | None", tries)

    def _arguments(self, attempt: Attempt, now: datetime) -> tuple[Any, ...]:
        """Return what the scripts on an account's tries are given."""
        source = b"" if attempt.source is None else source_digest(attempt.source)
        known = int(attempt.known and attempt.source is not None)
        rates = (*_in_milliseconds(self._rules.guesses), *_in_milliseconds(self._rules.run))
        return milliseconds(now), source, known, *rates

    async def _once(self, script: Script, key: str, *args: Any) -> Any:
        """Run a script that counts. Sent twice, it would count twice."""
        try:
            answer = await self._commands.once(script, key, *args)
        except UnderReplicatedError as error:
            answer = error.answer
        except FAILURES as error:
            raise unavailable(error) from error
        return _readable(answer)

    async def _repeatable(self, script: Script, key: str, *args: Any) -> Any:
        """Run a script that does not count."""
        try:
            answer = await self._commands.repeatable(script, key, *args)
        except UnderReplicatedError as error:
            answer = error.answer
        return _readable(answer)


def _readable(answer: Any) -> Any:
    if answer is None:
        raise UnreadableError("what is counted is stored in a format that this version does not know")
    return answer


def _refuse(answer: Any) -> None:
    limit = _LIMITS[answer[0]]
    if limit is not None:
        raise RateLimited(limit, retry_after=answer[1] * _MILLISECOND)


def _in_milliseconds(rate: Rate) -> tuple[int, int]:
    return rate.most, rate.within // _MILLISECOND
