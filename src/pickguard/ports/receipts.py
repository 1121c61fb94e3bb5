"""Where requests that name themselves are remembered."""

from datetime import datetime
from typing import Protocol

from pickguard.domain.model.idempotency import Answer, KeyDigest, Receipt


class Receipts(Protocol):
    """Remembers requests for `RECEIPT_LIFETIME` from their first sight.

    Every method raises `StoreUnavailable`, and `close` `NotReplicated`, and may be called again after either: each has the
    same effect twice.
    """

    async def read(self, request: KeyDigest, now: datetime) -> Receipt | None:
        """Return the receipt of a request, or None where it was never seen or long ago."""

    async def open(self, request: KeyDigest, fingerprint: str, now: datetime) -> Receipt:
        """Return the receipt of a request; where there is none, write one without an answer. One atomic step."""

    async def close(self, request: KeyDigest, opened: Receipt, answer: Answer) -> Answer:
        """Write the answer into a receipt that is still as it was `opened`, and return the answer that stands then.

        One atomic step: of all who try, one writes, and all return what that one wrote.
        """
