"""Receipts on real servers."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
import redis.asyncio

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import receipt_key
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.domain.model.idempotency import RECEIPT_LIFETIME
from pickguard.ports.receipts import Receipts
from pickguard.testing.contracts.receipts import FINGERPRINT, ReceiptsContract, a_request, an_answer
from tests.support.accounts import NOW
from tests.support.engines import PROGRAMS

DAY = RECEIPT_LIFETIME // timedelta(milliseconds=1)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestRedisReceipts(ReceiptsContract):
    @pytest.fixture
    async def receipts(self, engine: Engine) -> AsyncGenerator[Receipts]:
        second = timedelta(seconds=1)
        async with open_client(engine.url, connections=16, connect_timeout=5 * second, command_timeout=5 * second) as client:
            yield RedisReceipts(client)

    async def test_the_server_forgets_a_receipt_after_a_day_from_its_opening(self, receipts: Receipts, engine: Engine) -> None:
        request = a_request()
        key = receipt_key("pg", request)
        async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as direct:
            opened = await receipts.open(request, FINGERPRINT, NOW)
            assert DAY - 5000 < await direct.pttl(key) <= DAY
            await direct.pexpire(key, 60_000)
            await receipts.open(request, FINGERPRINT, NOW)
            assert await direct.pttl(key) <= 60_000
            await receipts.close(request, opened, an_answer())
            await receipts.close(request, opened, an_answer())
            assert 0 < await direct.pttl(key) <= 60_000
