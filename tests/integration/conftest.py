"""What the tests on real servers may ask for."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
import redis.asyncio

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client

PATIENCE = timedelta(seconds=5)


@pytest.fixture
async def direct(engine: Engine) -> AsyncGenerator[redis.asyncio.Redis]:
    """A connection beside the adapter's, to look at what is stored and to change it."""
    async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as client:
        yield client


@pytest.fixture
async def client(engine: Engine) -> AsyncGenerator[StoreClient]:
    """What the adapters take, as a service opens it."""
    async with open_client(engine.url, connections=16, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client:
        yield client
