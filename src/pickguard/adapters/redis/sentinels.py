"""The master that sentinels name, and connections to it."""

import asyncio
import math
from datetime import timedelta
from typing import Any, Final, cast

from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from pickguard.adapters.redis.commands import FAILURES
from pickguard.adapters.redis.wire import Pool

LOOK_AGAIN: Final = timedelta(seconds=1)
"""How old the sentinels' word on who is the master may be."""


class SilentError(MasterNotFoundError):
    """No sentinel answers."""


class SentinelPool(SentinelConnectionPool, Pool):
    """The same, to the master that the sentinels name.

    A master that was replaced and does not know it yet goes on answering what it is asked, with what was true before. So the
    sentinels are asked again when the last look is older than `LOOK_AGAIN`, and whoever needs a connection waits for that.
    Where none of them answered the last time, nobody waits, and new connections go where the master was: they may be down,
    which must not stop a service whose master is not.
    """

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call]
        self._looked_at = -math.inf
        self._look: asyncio.Task[None] | None = None
        self._knows = True

    async def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Connection:  # noqa: ARG002
        """Return a connection to the master that the sentinels name."""
        if not self.is_fresh:
            await self.look_again()
        return await super().get_connection()

    @property
    def is_fresh(self) -> bool:
        """Whether the sentinels' word on who is the master is not too old."""
        return asyncio.get_running_loop().time() - self._looked_at <= LOOK_AGAIN.total_seconds()

    async def look_again(self) -> None:
        """Ask the sentinels, and wait for what they say, if any of them answered the last time."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_for_master())
        if self._knows:
            await asyncio.shield(self._look)

    def leads_to_master(self, connection: AbstractConnection) -> bool:
        """Tell whether a connection goes to the master of the last look."""
        return isinstance(connection, Connection) and self.master_address == (connection.host, connection.port)

    async def get_master_address(self) -> tuple[str, int]:
        """Return where a new connection goes: to the master of the last look, while no sentinel answers."""
        if self.master_address is not None and not self._knows:
            return cast("tuple[str, int]", self.master_address)
        try:
            return cast("tuple[str, int]", await super().get_master_address())  # type: ignore[no-untyped-call]
        except SilentError:
            if self.master_address is None:
                raise
            return cast("tuple[str, int]", self.master_address)

    async def _look_for_master(self) -> None:
        try:
            await super().get_master_address()  # type: ignore[no-untyped-call]
        except SilentError:
            self._knows = False
        except FAILURES:  # they say that no master is up, and whoever needs a new connection hears it
            self._knows = True
        else:
            self._knows = True
        self._looked_at = asyncio.get_running_loop().time()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        await super().aclose()

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back. One that was in use when the master changed still goes to the old one."""
        if isinstance(connection, Connection) and not self.leads_to_master(connection):
            # Not here: who is cancelled while it disconnects would never give it back.
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]
        await super().release(connection)


class Sentinels(Sentinel):
    """redis-py's Sentinels, of which none is forgotten when several tasks ask at once."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where the master is, as the first says that knows; ask that one first the next time."""
        answered = False
        for sentinel in tuple(self.sentinels):
            try:
                masters = await sentinel.sentinel_masters()
            except FAILURES:
                continue
            answered = True
            state = cast("dict[str, dict[str, Any]]", masters).get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels.sort(key=lambda each: each is not sentinel)
                return state["ip"], state["port"]
        kind = MasterNotFoundError if answered else SilentError
        raise kind(f"no sentinel knows a master of {service_name!r} that is up")
