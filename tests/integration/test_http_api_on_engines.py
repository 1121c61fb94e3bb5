"""The HTTP API on real servers."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.limits import RateLimiter
from pickguard.ports.receipts import Receipts
from tests.contracts.http_api import HttpApiContract
from tests.contracts.http_mail import HttpMailContract
from tests.contracts.http_rights import HttpRightsContract
from tests.support.engines import PROGRAMS

# Longer than the defaults: that the machine is busy is no failure of the store.
PATIENCE = timedelta(seconds=20)


class OnEngine:
    """The store on a server."""

    @pytest.fixture
    async def client(self, engine: Engine) -> AsyncGenerator[StoreClient]:
        async with open_client(engine.url, connections=64, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client:
            yield client

    @pytest.fixture
    def accounts(self, client: StoreClient) -> AccountRepository:
        return RedisAccounts(client)

    @pytest.fixture
    def receipts(self, client: StoreClient) -> Receipts:
        return RedisReceipts(client)

    @pytest.fixture
    def limiter(self, client: StoreClient) -> RateLimiter:
        return RedisRateLimiter(client)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestHttpApiOnEngines(OnEngine, HttpApiContract):
    pass


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestHttpMailOnEngines(OnEngine, HttpMailContract):
    pass


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestHttpRightsOnEngines(OnEngine, HttpRightsContract):
    pass
