"""Receipts in memory."""

from datetime import timedelta

import pytest

from pickguard.adapters.memory import MemoryReceipts
from pickguard.domain.model.idempotency import RECEIPT_LIFETIME, Receipt
from pickguard.ports.receipts import Receipts
from pickguard.testing.contracts.receipts import FINGERPRINT, ReceiptsContract, a_request, an_answer
from tests.support.accounts import NOW


class TestMemoryReceipts(ReceiptsContract):
    @pytest.fixture
    def receipts(self) -> Receipts:
        return MemoryReceipts()


async def test_a_receipt_is_forgotten_after_a_day_from_its_opening() -> None:
    receipts = MemoryReceipts()
    request, later = a_request(), a_request()
    opened = await receipts.open(request, FINGERPRINT, NOW)
    await receipts.open(later, FINGERPRINT, NOW + timedelta(hours=1))
    await receipts.close(request, opened, an_answer())
    last = NOW + RECEIPT_LIFETIME - timedelta(milliseconds=1)
    assert await receipts.read(request, last) is not None
    assert await receipts.read(request, NOW + RECEIPT_LIFETIME) is None
    assert await receipts.read(later, NOW + RECEIPT_LIFETIME) is not None
    assert await receipts.open(request, "another", NOW + RECEIPT_LIFETIME) == Receipt(fingerprint="another")
