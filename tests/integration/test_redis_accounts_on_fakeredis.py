import pytest
from fakeredis import FakeAsyncRedis

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.testing.contracts.account_repository import AccountRepositoryContract


class TestRedisAccountsOnFakeredis(AccountRepositoryContract):
    @pytest.fixture
    def accounts(self, fake_redis: FakeAsyncRedis) -> RedisAccounts:
        return RedisAccounts(fake_redis)
