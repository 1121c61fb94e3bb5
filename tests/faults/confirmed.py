"""Processes that acknowledge a write when a replica has it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from tests.faults.use_cases import UseCases
from tests.faults.workload import in_process
from tests.support.fakes import cheap_hasher


def connect(url: str, *, wait_replicas: int = 1, patience: timedelta = timedelta(seconds=1)) -> StoreClient:
    return open_client(url, connections=16, connect_timeout=patience, command_timeout=patience, wait_replicas=wait_replicas)


@asynccontextmanager
async def confirmed_processes(url: str, count: int) -> AsyncGenerator[list[UseCases]]:
    """Return the use cases as so many processes have them: nothing is shared but the store."""
    async with AsyncExitStack() as stack:
        made: list[UseCases] = []
        for _ in range(count):
            accounts = RedisAccounts(await stack.enter_async_context(connect(url)))
            made.append(in_process(accounts, await stack.enter_async_context(cheap_hasher())))
        yield made
