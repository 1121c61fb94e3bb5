"""The API on a real store, and the store itself, to be looked at."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
import redis.asyncio

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.receipts import RedisReceipts
from tests.support.fakes import FakeClock, RecordedMail
from tests.support.http import Api, serving

PATIENCE = timedelta(seconds=20)
"""That the machine is busy is no failure of the store."""


@pytest.fixture
async def store(valkey: Engine) -> AsyncGenerator[redis.asyncio.Redis]:
    """An empty server, as somebody sees it who may see everything."""
    async with redis.asyncio.Redis(unix_socket_path=str(valkey.socket_path)) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def api(valkey: Engine, store: redis.asyncio.Redis, clock: FakeClock) -> AsyncGenerator[Api]:
    """The API on that server, with mail, so that every resource is there."""
    del store  # which is empty by now
    async with (
        open_client(valkey.url, connections=16, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client,
        LoopDeferred(pauses=(), spread=timedelta(0)) as deferred,
        serving(
            RedisAccounts(client),
            receipts=RedisReceipts(client),
            clock=clock,
            mailer=RecordedMail(),
            deferred=deferred,
        ) as api,
    ):
        yield api
