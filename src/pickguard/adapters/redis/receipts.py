"""Receipts of requests on Redis or Valkey: a string for each, which the server forgets by itself."""

from datetime import datetime, timedelta
from typing import Any

from pickguard.adapters.redis.accounts import DEFAULT_PREFIX
from pickguard.adapters.redis.commands import Client, Commands, UnderReplicatedError
from pickguard.adapters.redis.encoding import decode_receipt, encode_receipt, receipt_key
from pickguard.adapters.redis.scripts import CLOSE_RECEIPT, OPEN_RECEIPT, Script
from pickguard.domain.model.errors import NotReplicated, StoreUnavailable
from pickguard.domain.model.idempotency import RECEIPT_LIFETIME, Answer, KeyDigest, Receipt, Refused

_LIFETIME = str(RECEIPT_LIFETIME // timedelta(milliseconds=1))


class RedisReceipts:
    """`Receipts` on a client as `RedisAccounts` has it. The server's clock counts."""

    def __init__(self, client: Client, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._commands = Commands(client)
        self._prefix = prefix

    async def read(self, request: KeyDigest, now: datetime) -> Receipt | None:  # noqa: ARG002 (the server's clock counts)
        """See `Receipts.read`."""
        record = await self._commands.ask("GET", receipt_key(self._prefix, request))
        return None if record is None else decode_receipt(record)

    async def open(self, request: KeyDigest, fingerprint: str, now: datetime) -> Receipt:  # noqa: ARG002 (the server's clock counts)
        """See `Receipts.open`."""
        record = encode_receipt(Receipt(fingerprint=fingerprint))
        try:
            return decode_receipt(await self._run(OPEN_RECEIPT, request, record, _LIFETIME))
        except NotReplicated as error:  # a receipt without an answer binds nobody
            raise StoreUnavailable("too few replicas have confirmed that a request was seen") from error

    async def close(self, request: KeyDigest, opened: Receipt, answer: Answer) -> Answer:
        """See `Receipts.close`."""
        before = encode_receipt(opened)
        after = encode_receipt(Receipt(fingerprint=opened.fingerprint, answer=answer))
        try:
            closed = decode_receipt(await self._run(CLOSE_RECEIPT, request, before, after))
        except NotReplicated as error:
            if isinstance(answer, Refused):  # no account was made, so a repeat has nothing to lose
                raise StoreUnavailable("too few replicas have confirmed an answer") from error
            raise
        return (closed.answer if closed.fingerprint == opened.fingerprint else None) or answer

    async def _run(self, script: Script, request: KeyDigest, *args: Any) -> bytes:
        try:
            return bytes(await self._commands.repeatable(script, receipt_key(self._prefix, request), *args))
        except UnderReplicatedError as error:
            raise NotReplicated("too few replicas have confirmed the receipt of a request") from error
