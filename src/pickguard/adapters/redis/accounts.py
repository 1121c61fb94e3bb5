"""The repository of accounts on Redis or Valkey: one hash for each account, one small script for each write."""

import random
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

from pickguard.adapters.redis import scripts
from pickguard.adapters.redis.claims import DEADLINE, Claim, Claims
from pickguard.adapters.redis.commands import FAILURES, REFUSALS, Client, Commands, UnderReplicatedError, unavailable
from pickguard.adapters.redis.encoding import (
    ACTIVITY,
    CREDENTIAL,
    OPERATIONS,
    USER,
    VERSION,
    account_key,
    decode_activity,
    decode_credential,
    decode_session,
    decode_snapshot,
    decode_user,
    encode_account,
    encode_changes,
    encode_claim,
    has_operation,
    milliseconds,
    session_field,
)
from pickguard.domain.model.accounts import Account, register
from pickguard.domain.model.errors import Conflict, NotReplicated, OutcomeUnknown, StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.ports.accounts import REMEMBERED_OPERATIONS, Holder, Snapshot

DEFAULT_PREFIX = "pg"
PROBES = 4
"""How many keys a store's readiness is tried with, where it has several masters."""

_NOBODY = UserId(UUID(int=0))
_CLAIM_OF_NOBODY: Final = encode_claim(_NOBODY, bytes(8), 0)
_OF_NOBODY: Final = encode_account(
    register(
        user_id=_NOBODY,
        name=PersonName.parse("Nobody"),
        email=EmailAddress.parse("nobody@example.com"),
        password_hash=f"$argon2id$v=19$m=19456,t=2,p=1${'A' * 22}${'A' * 43}",
        now=datetime(1970, 1, 1, tzinfo=UTC),
    ).account
)
"""What is read in the place of an account that is not there."""


class RedisAccounts:
    """An `AccountRepository` on a redis-py client.

    The client must not retry by itself, and must not decode answers; `open_client` makes one. Every key begins with the
    prefix and a colon.
    """

    def __init__(self, client: Client, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._commands = Commands(client)
        self._prefix = prefix
        self._claims = Claims(commands=self._commands, prefix=prefix, has_address=self._has_address)

    async def get(self, user_id: UserId) -> Snapshot | None:
        """See `AccountRepository.get`."""
        fields = await self._commands.ask("HGETALL", account_key(self._prefix, user_id))
        return decode_snapshot(fields, user_id) if fields else None

    async def find(self, email: EmailAddress) -> Snapshot | None:
        """See `AccountRepository.find`."""
        claim = await self._claims.read(email.key)
        snapshot = None if claim is None else await self.get(claim.user_id)
        return snapshot if snapshot is not None and snapshot.account.user.email.key == email.key else None

    async def find_holder(self, email: EmailAddress) -> Holder | None:
        """See `AccountRepository.find_holder`. For an address that nobody has, nobody's account is read, to take as long."""
        claim = await self._claims.read(email.key) or Claim.parse(_CLAIM_OF_NOBODY)
        user_id = claim.user_id
        fields = await self._commands.ask("HMGET", account_key(self._prefix, user_id), USER, CREDENTIAL, ACTIVITY)
        user, credential, activity = fields
        is_there = user is not None and credential is not None
        if not is_there:
            user, credential = _OF_NOBODY[USER], _OF_NOBODY[CREDENTIAL]
        holder = Holder(
            user=decode_user(user, user_id),
            credential=decode_credential(credential),
            read_activity=lambda: () if activity is None else decode_activity(activity),
        )
        return holder if is_there and holder.user.email.key == email.key else None

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        """See `AccountRepository.read_session`. One HMGET."""
        key = account_key(self._prefix, user_id)
        user, session = await self._commands.ask("HMGET", key, USER, session_field(digest))
        if user is None or session is None:
            return None
        return decode_user(user, user_id), decode_session(session, digest)

    async def add(self, account: Account, *, operation: bytes) -> None:
        """See `AccountRepository.add`."""
        address, user_id = account.user.email.key, account.user.id
        claim = await self._claims.acquire(address, user_id, nonce=operation)
        await self._save_under(claim, address, None, account, operation)

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        """See `AccountRepository.save`."""
        old_address, new_address = before.account.user.email.key, after.user.email.key
        if old_address == new_address:
            outcome = await self._save(before, after, operation, claim=None)
            if outcome != scripts.SAVED:
                raise _refusal(outcome)
            return
        superfluous = await self._claims.read(old_address)
        claim = await self._claims.acquire(new_address, after.user.id, nonce=operation)
        await self._save_under(claim, new_address, before, after, operation)
        if superfluous is not None and superfluous.user_id == after.user.id:
            await self._claims.release(old_address, superfluous)

    async def remove(self, before: Snapshot, *, operation: bytes) -> None:  # noqa: ARG002 (a removal leaves no trace to look for)
        """See `AccountRepository.remove`."""
        user_id, address = before.account.user.id, before.account.user.email.key
        superfluous = await self._claims.read(address)
        if await self._remove(before) == scripts.CONFLICT:
            raise Conflict
        if superfluous is not None and superfluous.user_id == user_id:
            await self._claims.release(address, superfluous)

    async def confirm(self, snapshot: Snapshot) -> None:
        """See `AccountRepository.confirm`. What one server has acknowledged is on its disk; it asks only for replicas."""
        if not self._commands.wait_for_replicas:
            return
        key = account_key(self._prefix, snapshot.account.user.id)
        try:
            outcome = int(await self._commands.repeatable(scripts.CONFIRM, key, snapshot.version))
        except UnderReplicatedError as error:
            if error.answer == scripts.SAVED:
                raise NotReplicated("too few replicas have confirmed what was there already") from error
            outcome = int(error.answer)
        if outcome == scripts.CONFLICT:
            raise Conflict

    async def check_writable(self) -> None:
        """See `AccountRepository.check_writable`: writes a key of its own, which goes by itself.

        In a cluster it is enough that some keys can be written: taking a service away because one of the masters is down would
        take the others' users with it.
        """
        keys = [f"{self._prefix}:probe:{number}" for number in range(PROBES)]
        random.shuffle(keys)
        for last, key in enumerate(keys, 1 - len(keys)):
            try:
                await self._commands.ask("SET", key, b"", "PX", 1000)
            except StoreUnavailable:
                if last == 0 or not self._commands.have_several_masters:
                    raise
            else:
                return

    async def _has_address(self, user_id: UserId, address: str) -> bool:
        user = await self._commands.ask("HGET", account_key(self._prefix, user_id), USER)
        return user is not None and decode_user(user, user_id).email.key == address

    async def _save_under(self, claim: Claim, address: str, before: Snapshot | None, after: Account, operation: bytes) -> None:
        """Save, relying on a claim; give the claim back where it is certain that nothing was saved."""
        try:
            outcome = await self._save(before, after, operation, claim=claim)
        except StoreUnavailable:
            await self._claims.release(address, claim)
            raise
        if outcome == scripts.SAVED:
            return
        await self._claims.release(address, claim)
        raise _refusal(outcome)

    async def _save(self, before: Snapshot | None, after: Account, operation: bytes, *, claim: Claim | None) -> int:
        version = before.version if before else 0
        written, removed = encode_changes(before.account if before else None, after)
        args: list[Any] = [
            version,
            operation,
            len(operation) * REMEMBERED_OPERATIONS,
            "" if claim is None else claim.made_at,
            DEADLINE // timedelta(milliseconds=1),
            _end_of(before.account if before else None, after),
            2 * len(written),
            *chain.from_iterable(written.items()),
            *removed,
        ]
        key = account_key(self._prefix, after.user.id)
        try:
            return int(await self._commands.once(scripts.SAVE, key, *args))
        except UnderReplicatedError as error:
            if error.answer == scripts.SAVED:
                raise NotReplicated("too few replicas have confirmed a write") from error
            return int(error.answer)
        except REFUSALS as error:
            raise unavailable(error) from error
        except FAILURES as error:
            return await self._look_for(operation, key, version, error)

    async def _look_for(self, operation: bytes, key: str, expected: int, error: BaseException) -> int:
        """Say what became of a save whose answer was lost. It may still be on its way, so it is not sent again."""
        try:
            version, operations = await self._commands.ask("HMGET", key, VERSION, OPERATIONS)
        except StoreUnavailable:
            raise OutcomeUnknown("the store did not answer a write") from error
        if operations is not None and has_operation(operations, operation):
            self._confirm_replicas(error)
            return scripts.SAVED
        # Another write took its version, and too few have followed to forget it: it can never happen any more.
        if version is not None and expected < int(version) <= expected + REMEMBERED_OPERATIONS:
            return scripts.CONFLICT
        raise OutcomeUnknown("the store did not answer a write") from error

    def _confirm_replicas(self, error: BaseException) -> None:
        """Raise where replicas should have confirmed a write that was only found: a WAIT would count from later writes."""
        if self._commands.wait_for_replicas:
            raise NotReplicated("whether replicas have a write is not known, since its answer was lost") from error

    async def _remove(self, before: Snapshot) -> int:
        key = account_key(self._prefix, before.account.user.id)
        try:
            return int(await self._commands.once(scripts.REMOVE, key, before.version))
        except UnderReplicatedError as error:
            if error.answer == scripts.SAVED:
                raise NotReplicated("too few replicas have confirmed a removal") from error
            return int(error.answer)
        except REFUSALS as error:
            raise unavailable(error) from error
        except FAILURES as error:
            try:
                version = await self._commands.ask("HGET", key, VERSION)
            except StoreUnavailable:
                raise OutcomeUnknown("the store did not answer a removal") from error
            if version is None:  # gone, as was wanted, by this removal or by another
                self._confirm_replicas(error)
                return scripts.SAVED
            if int(version) > before.version:
                return scripts.CONFLICT
            raise OutcomeUnknown("the store did not answer a removal") from error


def _end_of(before: Account | None, after: Account) -> int | str:
    """Return what a save is to do about the account's end, in the script's terms."""
    end = after.user.deletes_at
    if end == (None if before is None else before.user.deletes_at):
        return ""
    return 0 if end is None else milliseconds(end)


def _refusal(outcome: int) -> Exception:
    """Return what it is to the core that a save was refused."""
    if outcome == scripts.LATE:
        return StoreUnavailable("the claim on the address had grown too old when the account was saved")
    if outcome == scripts.OVER:
        return StoreUnavailable("by the store's clock the time to restore the account would be over already")
    return Conflict()
