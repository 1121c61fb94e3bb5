"""Making an account."""

import attrs

from pickguard.domain.model.accounts import register
from pickguard.domain.model.errors import (
    AddressTaken,
    Conflict,
    Contended,
    IdempotencyKeyReused,
    OutcomeUnknown,
    StoreUnavailable,
)
from pickguard.domain.model.events import UserDeleted
from pickguard.domain.model.idempotency import Answer, KeyDigest, Receipt, Refused, Registered, key_digest, what_was_asked
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, UserId, uuid7
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.domain.services.changes import ATTEMPTS, AccountChanges
from pickguard.domain.services.fields import FieldExaminer
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.hashing import PasswordHasher, Purpose
from pickguard.ports.receipts import Receipts
from pickguard.ports.secrets import SecretSource


@attrs.frozen(kw_only=True)
class _Asked:
    name: PersonName
    email: EmailAddress
    password: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Registration:
    """Lets anybody make an account."""

    _accounts: AccountRepository
    _receipts: Receipts
    _changes: AccountChanges
    _hasher: PasswordHasher
    _clock: Clock
    _secrets: SecretSource
    _fields: FieldExaminer

    async def register(self, *, name: str, email: str, password: str, idempotency_key: str | None = None) -> User:
        """Make an account and return its user.

        Raises `InvalidFields` with all faults, `AddressTaken`, and `Unavailable` in its kinds. However many register one
        address at once, in whatever spelling and on however many processes, one of them succeeds.

        A request with an idempotency key may be repeated for 24 hours, after any error too, and with the same arguments: once
        it has been answered, with a user or `AddressTaken`, every repeat gets that answer again, whatever has become of the
        account, and makes no other. (Only somebody who logs in before there was any answer, and deletes the account or leaves
        its address, makes room for a second one.) Raises `IdempotencyKeyReused` where the arguments differ. The key is any
        text; it should be as hard to guess as a UUID, since all callers share one space of keys.
        """
        examined = self._fields.new_account(name=name, email=email, password=password)
        examined.raise_faults()
        assert examined.name is not None  # noqa: S101 (no fault means that each given field was parsed)
        assert examined.email is not None  # noqa: S101
        assert examined.password is not None  # noqa: S101
        asked = _Asked(name=examined.name, email=examined.email, password=examined.password)
        if idempotency_key is None:
            return await self._make(asked)
        return await self._make_once(asked, key_digest(idempotency_key), what_was_asked(idempotency_key, name, email, password))

    async def _make(self, asked: _Asked) -> User:
        # Hash first, claim the address then: a claim without its account makes others wait, so it must be short.
        return await self._add(asked, await self._hasher.hash(asked.password, purpose=Purpose.REGISTRATION))

    async def _add(self, asked: _Asked, password_hash: str, *, made_by: KeyDigest | None = None) -> User:
        now = self._clock.now()
        transition = register(
            user_id=UserId(uuid7(now, self._secrets.random_bytes(UUID7_RANDOM_BYTES))),
            name=asked.name,
            email=asked.email,
            password_hash=password_hash,
            now=now,
            made_by=made_by,
        )
        await self._accounts.add(transition.account, operation=self._changes.new_operation())
        self._changes.publish(*transition.events)
        return transition.account.user

    async def _make_once(self, asked: _Asked, request: KeyDigest, text: str) -> User:
        """Make an account unless this request has, and remember the answer before it is given.

        A repeat may come at any point of the first try, or run beside it. What decides is the address, as ever: a repeat that
        finds it taken looks whether it was by an account that this very request made.
        """
        began = self._clock.now()
        receipt = await self._receipt(request, text)
        answer = receipt.answer
        if answer is None:
            spent = self._clock.now() - began
            password_hash = await self._hasher.hash(asked.password, purpose=Purpose.REGISTRATION, spent=spent)
            # Another try may have ended meanwhile, and its account have been deleted already.
            receipt = await self._receipts.read(request, self._clock.now()) or receipt
            answer = receipt.answer or await self._answer(asked, request, receipt, password_hash)
        if isinstance(answer, Refused):
            raise AddressTaken
        return User(
            id=answer.user_id,
            name=asked.name,
            email=asked.email,
            email_verified=False,
            created_at=answer.at,
            updated_at=answer.at,
        )

    async def _receipt(self, request: KeyDigest, text: str) -> Receipt:
        """Return the receipt of this very request; `IdempotencyKeyReused` where it is that of another."""
        began = self._clock.now()
        receipt = await self._receipts.read(request, began)
        if receipt is None:
            fingerprint = await self._hasher.hash(text, purpose=Purpose.REGISTRATION)
            receipt = await self._receipts.open(request, fingerprint, self._clock.now())
            if receipt.fingerprint == fingerprint:
                return receipt
        spent = self._clock.now() - began
        if not await self._hasher.verify(receipt.fingerprint, text, purpose=Purpose.REGISTRATION, spent=spent):
            raise IdempotencyKeyReused
        return receipt

    async def _answer(self, asked: _Asked, request: KeyDigest, receipt: Receipt, password_hash: str) -> Answer:
        """Make the account, or find that this request or another has, and return the answer that stands in the receipt then."""
        try:
            user = await self._add(asked, password_hash, made_by=request)
        except AddressTaken:
            return await self._answer_taken(asked, request, receipt)
        answer = Registered(user_id=user.id, at=user.created_at)
        stands = await self._close(request, receipt, answer)
        if stands != answer:
            # Another try was quicker, and its account was deleted before this one asked for the address. That was the answer.
            await self._changes.remove(user.id, lambda account: UserDeleted(user_id=account.user.id, at=self._clock.now()))
        return stands

    async def _answer_taken(self, asked: _Asked, request: KeyDigest, receipt: Receipt) -> Answer:
        for _ in range(ATTEMPTS):
            found = await self._accounts.find(asked.email)
            if found is None or found.account.made_by != request:
                return await self._receipts.close(request, receipt, Refused())
            try:
                await self._accounts.confirm(found)
            except Conflict:
                continue
            user = found.account.user
            return await self._close(request, receipt, Registered(user_id=user.id, at=user.created_at))
        raise Contended("the account of this request is being changed by too many requests at once")

    async def _close(self, request: KeyDigest, receipt: Receipt, answer: Registered) -> Answer:
        try:
            return await self._receipts.close(request, receipt, answer)
        except StoreUnavailable as error:
            raise OutcomeUnknown("the account was made, and its receipt could not be written") from error
