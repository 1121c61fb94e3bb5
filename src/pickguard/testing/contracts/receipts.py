"""What every store of `Receipts` must do."""

import asyncio
import os
from datetime import timedelta

import pytest

from pickguard.domain.model.idempotency import KEY_DIGEST_BYTES, KeyDigest, Receipt, Refused, Registered
from pickguard.domain.model.identifiers import UserId
from pickguard.ports.receipts import Receipts
from pickguard.testing.accounts import an_account
from pickguard.testing.contracts.overriding import overridable
from pickguard.testing.fakes import NOW

FINGERPRINT = "$argon2id$v=19$not-a-real-hash"


def a_request() -> KeyDigest:
    """Return the digest of a key that nobody has used."""
    return KeyDigest(os.urandom(KEY_DIGEST_BYTES))


def an_answer() -> Registered:
    """Return the answer to a registration, another one each time."""
    return Registered(user_id=UserId(an_account().user.id), at=NOW)


class ReceiptsContract:
    """Tests of single calls and of races between them. Subclass it as ``Test…`` and override the fixture `receipts`.

    What passes remembers a request and gives one answer to all who ask, under races. What is not shown: that a receipt is
    forgotten by itself after `RECEIPT_LIFETIME` where that goes by the store's own clock, and what becomes of it in a crash.
    """

    @overridable
    @pytest.fixture
    def receipts(self) -> Receipts:
        """Return the receipts to be tested."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `receipts` with a store of them to test")

    @pytest.mark.asyncio
    async def test_a_request_that_was_never_seen_has_no_receipt(self, receipts: Receipts) -> None:
        assert await receipts.read(a_request(), NOW) is None

    @pytest.mark.asyncio
    async def test_a_receipt_is_read_as_it_was_opened_and_closed(self, receipts: Receipts) -> None:
        request, answer = a_request(), an_answer()
        opened = await receipts.open(request, FINGERPRINT, NOW)
        assert opened == await receipts.read(request, NOW) == Receipt(fingerprint=FINGERPRINT)
        assert await receipts.close(request, opened, answer) == answer
        assert await receipts.read(request, NOW) == Receipt(fingerprint=FINGERPRINT, answer=answer)
        assert await receipts.read(a_request(), NOW) is None

    @pytest.mark.asyncio
    async def test_a_refusal_is_an_answer(self, receipts: Receipts) -> None:
        request = a_request()
        opened = await receipts.open(request, FINGERPRINT, NOW)
        assert await receipts.close(request, opened, Refused()) == Refused()
        assert await receipts.read(request, NOW) == Receipt(fingerprint=FINGERPRINT, answer=Refused())

    @pytest.mark.asyncio
    async def test_of_many_who_open_one_receipt_all_get_that_of_the_first(self, receipts: Receipts) -> None:
        request = a_request()
        opened = await asyncio.gather(*(receipts.open(request, f"{FINGERPRINT}{number}", NOW) for number in range(16)))
        assert len(set(opened)) == 1
        assert await receipts.read(request, NOW) == opened[0]

    @pytest.mark.asyncio
    async def test_of_many_answers_one_stands_and_all_are_told_it(self, receipts: Receipts) -> None:
        request = a_request()
        opened = await receipts.open(request, FINGERPRINT, NOW)
        told = await asyncio.gather(*(receipts.close(request, opened, an_answer()) for _ in range(16)))
        assert len(set(told)) == 1
        assert await receipts.read(request, NOW) == Receipt(fingerprint=FINGERPRINT, answer=told[0])
        assert await receipts.close(request, opened, Refused()) == told[0]

    @pytest.mark.asyncio
    async def test_to_open_and_to_close_twice_is_as_good_as_once(self, receipts: Receipts) -> None:
        request, answer = a_request(), an_answer()
        opened = await receipts.open(request, FINGERPRINT, NOW)
        assert await receipts.open(request, FINGERPRINT, NOW) == opened
        assert await receipts.close(request, opened, answer) == await receipts.close(request, opened, answer) == answer
        assert await receipts.open(request, "another", NOW) == Receipt(fingerprint=FINGERPRINT, answer=answer)

    @pytest.mark.asyncio
    async def test_a_receipt_that_was_forgotten_meanwhile_is_not_written_again(self, receipts: Receipts) -> None:
        request, answer = a_request(), an_answer()
        assert await receipts.close(request, Receipt(fingerprint=FINGERPRINT), answer) == answer
        assert await receipts.read(request, NOW + timedelta(hours=1)) is None

    @pytest.mark.asyncio
    async def test_the_answer_of_another_request_is_nobodys(self, receipts: Receipts) -> None:
        # The first receipt was forgotten between its opening and its closing, and its key was used again.
        request, mine, other = a_request(), an_answer(), an_answer()
        opened = await receipts.open(request, "another", NOW)
        assert await receipts.close(request, opened, other) == other
        assert await receipts.close(request, Receipt(fingerprint=FINGERPRINT), mine) == mine
        assert await receipts.read(request, NOW) == Receipt(fingerprint="another", answer=other)
