"""Checking a password, within the limits on guesses."""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import TypeVar

import attrs

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.activity import knows_source
from pickguard.domain.model.errors import RateLimited, WrongPassword
from pickguard.domain.model.events import FailuresNoted, LimitReached
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.limits import Attempt, Failures, Limit, source_of
from pickguard.domain.model.sessions import Client
from pickguard.ports.accounts import Holder
from pickguard.ports.clock import Clock
from pickguard.ports.events import EventPublisher
from pickguard.ports.hashing import PasswordHasher, Purpose
from pickguard.ports.limits import RateLimiter

_Told = TypeVar("_Told")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PasswordChecks:
    """The one place where a password is compared with what is stored, so that no way to guess one goes around the limits."""

    _hasher: PasswordHasher
    _limiter: RateLimiter
    _events: EventPublisher
    _clock: Clock

    async def check(
        self,
        holder: Holder | None,
        password: str,
        *,
        address: str,
        client: Client,
        purpose: Purpose,
        admitted: bool = True,
        also_known: Collection[str | None] = (),
    ) -> tuple[FailuresNoted, ...]:
        """Return if the (normalised) password is the holder's, with the wrong ones before it, to be told to them.

        Raises `WrongPassword`; also where the right one is of no use because the account is not `admitted`, and then it is
        counted as wrong, so that the two cannot be told apart. Raises `RateLimited` where the limits on guesses are reached,
        whether the password is right or not; the outcome is told only if it is within them also after it was verified (see
        `RateLimiter`). The sources in `also_known` are known beside those of the holder's activity. Without a holder (None)
        all takes as long as with one.
        """
        source = source_of(client.ip)

        def knows() -> bool:
            return holder is not None and (source in also_known or knows_source(holder.read_activity(), source))

        async def limited(step: Callable[[Attempt, datetime], Awaitable[_Told]]) -> _Told:
            # Whether the source is known matters only where the account's run is used up. Elsewhere it is not looked at: the
            # time for that would tell that there is an account. What was refused has counted nothing, so it can be tried again.
            attempt = Attempt(address=address, source=source)
            try:
                return await step(attempt, self._clock.now())
            except RateLimited as error:
                if error.limit is not Limit.RUN or not knows():
                    raise
            return await step(attrs.evolve(attempt, known=True), self._clock.now())

        user_id = holder.user.id if holder else None
        try:
            await limited(self._limiter.check)
            password_hash = holder.credential.password_hash if holder else None
            if await self._hasher.verify(password_hash, password, purpose=purpose) and admitted and user_id is not None:
                return _noted(user_id, await limited(self._limiter.succeed))
            await limited(self._limiter.fail)
        except RateLimited as error:
            self._events.publish(LimitReached(user_id=user_id, at=self._clock.now(), client=client, limit=error.limit))
            raise
        raise WrongPassword

    async def forgive(self, account: Account) -> tuple[FailuresNoted, ...]:
        """Forget the wrong passwords for an account whose owner has shown who they are, and return them."""
        return _noted(account.user.id, await self._limiter.forgive(account.user.email.key))


def _noted(user_id: UserId, failures: Failures) -> tuple[FailuresNoted, ...]:
    if failures.count == 0 or failures.last_at is None:
        return ()
    client = Client(ip=failures.last_source)
    return (FailuresNoted(user_id=user_id, at=failures.last_at, client=client, count=failures.count),)
