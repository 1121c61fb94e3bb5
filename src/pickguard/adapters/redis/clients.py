"""What a client of a store offers, whatever the store is made of."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, Self

import attrs

from pickguard.adapters.redis.commands import Client
from pickguard.adapters.redis.location import Location


@attrs.frozen(kw_only=True)
class Node:
    """One server of a store."""

    name: str
    client: Client


class StoreClient(ABC):
    """A client of a store: `Commands` of any key go to the server that has it. To be used as a context manager."""

    location: Location
    wait_replicas: int
    """How many replicas confirm what a script wrote before its answer is returned."""
    has_several_masters: ClassVar[bool] = False

    @abstractmethod
    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command, once, and return its answer. Raises one of `FAILURES`."""

    def ask(self, *args: Any) -> Awaitable[Any]:
        """Send one command that may as well run twice, together with those of others. Raises one of `FAILURES`."""
        return self.execute_command(*args)

    async def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send many commands that may as well run twice, at once; return the answer to each, or the error."""
        return await asyncio.gather(*(self.execute_command(*each) for each in commands), return_exceptions=True)

    @abstractmethod
    async def reach(self) -> None:
        """Return if a server answers and lets us in. Raises one of `FAILURES`."""

    @abstractmethod
    async def masters(self) -> Sequence[Node]:
        """Return the servers that take writes: one, or those of a cluster. Raises one of `FAILURES`."""

    @abstractmethod
    async def replicas(self) -> Sequence[Node]:
        """Return the servers that copy them, as far as their masters or sentinels know. Raises one of `FAILURES`."""

    async def sentinels(self) -> Sequence[Node]:
        """Return the sentinels that were named."""
        return ()

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
