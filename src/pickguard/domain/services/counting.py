"""Counting what is limited by itself, beside wrong passwords."""

import attrs

from pickguard.domain.model.errors import RateLimited
from pickguard.domain.model.events import LimitReached
from pickguard.domain.model.limits import Limit, source_of
from pickguard.domain.model.sessions import Client
from pickguard.ports.clock import Clock
from pickguard.ports.events import EventPublisher
from pickguard.ports.limits import RateLimiter


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Counting:
    """Counts, and tells as an event where a limit was reached. May raise `StoreUnavailable`: the gate stays shut then."""

    _limiter: RateLimiter
    _events: EventPublisher
    _clock: Clock

    async def count(self, limit: Limit, subject: str, *, client: Client | None) -> None:
        """Count one thing of a kind, which a client asked for. Raises `RateLimited`."""
        now = self._clock.now()
        try:
            await self._limiter.count(limit, subject, now)
        except RateLimited as error:
            self._events.publish(LimitReached(user_id=None, at=now, client=client or Client(), limit=error.limit))
            raise

    async def count_for_source(self, limit: Limit, client: Client | None) -> None:
        """Count one thing of a kind for where a client is; nothing where that is not known. Raises `RateLimited`."""
        source = None if client is None else source_of(client.ip)
        if source is not None:
            await self.count(limit, source, client=client)
