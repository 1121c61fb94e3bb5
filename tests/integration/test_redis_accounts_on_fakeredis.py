from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from fakeredis import FakeAsyncRedis
from hypothesis import settings

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.ports.accounts import AccountRepository
from pickguard.testing.contracts.account_repository import AccountRepositoryContract
from pickguard.testing.machine import AccountServiceMachine
from tests.support.strategies import examples


class TestRedisAccountsOnFakeredis(AccountRepositoryContract):
    @pytest.fixture
    def accounts(self, fake_redis: FakeAsyncRedis) -> RedisAccounts:
        return RedisAccounts(fake_redis)


class UseCasesOnFakeredis(AccountServiceMachine):
    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[AccountRepository]:
        async with FakeAsyncRedis(version=(7,), protocol=2) as client:
            yield RedisAccounts(client)


TestUseCasesOnFakeredis = UseCasesOnFakeredis.TestCase
TestUseCasesOnFakeredis.settings = settings(examples(10), stateful_step_count=25)
