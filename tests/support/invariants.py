"""What must hold for every key of a store, at any moment and after any fault."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pickguard.adapters.redis.claims import Claim
from pickguard.adapters.redis.encoding import (
    ACTIVITY,
    CHALLENGES,
    CREDENTIAL,
    MADE_BY,
    OPERATIONS,
    SESSION_PREFIX,
    USER,
    VERSION,
    UnreadableError,
    claim_key,
    decode_snapshot,
)
from pickguard.domain.model.identifiers import UserId
from pickguard.ports.accounts import OPERATION_ID_BYTES, REMEMBERED_OPERATIONS, Snapshot

_CLAIM = "pg:email:"
_ACCOUNT = "pg:{"
_PASSING = ("pg:request:", "pg:tries:", "pg:limit:", "pg:probe:")
_FOR_EVER = -1  # what PTTL answers for a key without an end; -2 for one that has just gone
_DIGEST_BYTES = 32


class Scan:
    """Every key of a store, read one after the other: the accounts and claims there are, and what should not be.

    Writes that go on meanwhile would show halves of what is whole; let them end first.
    """

    def __init__(self) -> None:
        self.keys = 0
        self.accounts: dict[str, Snapshot] = {}
        self.faults: list[str] = []
        self._claims: dict[str, Claim] = {}

    @classmethod
    async def of(cls, *masters: Any) -> "Scan":
        """Read all keys of a server, or of all the masters of a Cluster."""
        scan = cls()
        for master in masters:
            keys = {key.decode() async for key in master.scan_iter(count=1000)}
            for key in sorted(keys):
                await scan._read(master, key)
        scan._judge()
        return scan

    @property
    def orphan_claims(self) -> int:
        """How many claims have no account. A crash leaves them, and whoever wants the address takes them over."""
        return len(self._claims) - len(self.accounts)

    async def _read(self, master: Any, key: str) -> None:
        self.keys += 1
        if key.startswith(_CLAIM):
            value = await master.get(key)
            if value is not None:
                self._claims[key] = Claim.parse(value)
        elif key.startswith(_ACCOUNT):
            fields = await master.hgetall(key)
            user_id = UserId(UUID(key.removeprefix(_ACCOUNT).removesuffix("}")))
            self._read_account(user_id, fields)
            snapshot, life = self.accounts.get(str(user_id)), await master.pttl(key)
            if snapshot is not None and (snapshot.account.user.deletes_at is None) != (life == _FOR_EVER):
                self.faults.append(f"{user_id} is to go at {snapshot.account.user.deletes_at}, and its key in {life} ms")
        elif not key.startswith(_PASSING):
            self.faults.append(f"{key} has no owner")
        elif await master.pttl(key) == _FOR_EVER:
            self.faults.append(f"{key} would be kept for ever")

    def _read_account(self, user_id: UserId, fields: Mapping[bytes, bytes]) -> None:
        try:
            snapshot = decode_snapshot(fields, user_id)
            operations = fields[OPERATIONS]
        except (KeyError, UnreadableError) as error:
            self.faults.append(f"{user_id} is half an account, or none that can be read: {error!r}")
            return
        self.accounts[str(user_id)] = snapshot
        remembered, rest = divmod(len(operations), OPERATION_ID_BYTES)
        if rest or remembered != min(snapshot.version, REMEMBERED_OPERATIONS):
            self.faults.append(f"{user_id} remembers {remembered} operations at version {snapshot.version}")
        for name in fields.keys() - {VERSION, OPERATIONS, USER, CREDENTIAL, CHALLENGES, ACTIVITY, MADE_BY}:
            if not name.startswith(SESSION_PREFIX) or len(name) != len(SESSION_PREFIX) + _DIGEST_BYTES:
                self.faults.append(f"{user_id} has a field that is none of its own")
        ids = [session.id for session in snapshot.account.sessions]
        if len(ids) != len(set(ids)):
            self.faults.append(f"{user_id} has one session twice")

    def _judge(self) -> None:
        owners: dict[str, str] = {}
        for user_id, snapshot in self.accounts.items():
            address = snapshot.account.user.email.key
            if address in owners:
                self.faults.append(f"{address} has two accounts: {owners[address]} and {user_id}")
            owners[address] = user_id
            claim = self._claims.get(claim_key("pg", address))
            if claim is None:
                self.faults.append(f"{user_id} is without a claim on {address}")
            elif str(claim.user_id) != user_id:
                self.faults.append(f"the claim of {user_id} on {address} is that of {claim.user_id}")
