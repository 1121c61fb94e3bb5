from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from tests.contracts.account_repository import AccountRepositoryContract
from tests.support.engines import PROGRAMS


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestRedisAccounts(AccountRepositoryContract):
    @pytest.fixture
    async def accounts(self, engine: Engine) -> AsyncGenerator[RedisAccounts]:
        second = timedelta(seconds=1)
        async with open_client(engine.url, connections=16, connect_timeout=5 * second, command_timeout=5 * second) as client:
            yield RedisAccounts(client)
