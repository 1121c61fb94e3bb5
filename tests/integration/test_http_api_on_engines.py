"""The HTTP API on real servers."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.receipts import Receipts
from tests.contracts.http_api import HttpApiContract
from tests.support.engines import PROGRAMS


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestHttpApiOnEngines(HttpApiContract):
    @pytest.fixture
    async def accounts(self, engine: Engine) -> AsyncGenerator[AccountRepository]:
        # Longer than the defaults: that the machine is busy is no failure of the store.
        patience = timedelta(seconds=20)
        async with open_client(engine.url, connections=64, connect_timeout=patience, command_timeout=patience) as client:
            yield RedisAccounts(client)

    @pytest.fixture
    async def receipts(self, engine: Engine) -> AsyncGenerator[Receipts]:
        patience = timedelta(seconds=20)
        async with open_client(engine.url, connections=64, connect_timeout=patience, command_timeout=patience) as client:
            yield RedisReceipts(client)
