"""Making an account."""

import contextlib
import enum
from datetime import datetime, timedelta
from typing import Final

import attrs

from pickguard.domain.model.accounts import Account, Transition, register
from pickguard.domain.model.challenges import ChallengeKind, MailedToken
from pickguard.domain.model.errors import (
    AccountsError,
    AddressTaken,
    Conflict,
    Contended,
    IdempotencyKeyReused,
    OutcomeUnknown,
    RegistrationClosed,
    StoreUnavailable,
    Unavailable,
)
from pickguard.domain.model.events import UserDeleted
from pickguard.domain.model.idempotency import Answer, KeyDigest, Receipt, Refused, Registered, key_digest, what_was_asked
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, UserId, uuid7
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import AlreadyRegistered
from pickguard.domain.model.sessions import Client
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.domain.services.changes import ATTEMPTS, AccountChanges
from pickguard.domain.services.counting import Counting
from pickguard.domain.services.fields import FieldExaminer
from pickguard.domain.services.letters import Letters
from pickguard.domain.services.recovery import mail_reset_token
from pickguard.domain.services.screening import PasswordScreen
from pickguard.domain.services.verification import verification_mail
from pickguard.ports.accounts import AccountRepository, Snapshot
from pickguard.ports.clock import Clock
from pickguard.ports.deferred import Deferred, Pace
from pickguard.ports.hashing import PasswordHasher, Purpose
from pickguard.ports.receipts import Receipts
from pickguard.ports.secrets import SecretSource

PACE: Final = timedelta(milliseconds=250)
"""A private registration takes a whole number of these. The work takes a tenth of one, unless much is going on."""


@attrs.frozen(kw_only=True)
class _Asked:
    name: PersonName
    email: EmailAddress
    password: str = attrs.field(repr=False)
    client: Client


@attrs.frozen(kw_only=True)
class _Outcome:
    """What a registration came to: a user, or None where the address has an account; and whether that had been told before."""

    user: User | None
    is_repeat: bool = False


@attrs.frozen(kw_only=True)
class _Made:
    """An account that was made, and the token to be mailed to its address, if there is mail."""

    account: Account
    token: MailedToken | None


class RegistrationMode(enum.Enum):
    """Who can make an account, and what they are told."""

    OPEN = "open"
    """Anybody, and who asks for an address that has an account is told so."""
    PRIVATE = "private"
    """Anybody, and nobody is told which addresses have an account (ASVS 5.0 6.3.8): that is told by mail, to its owner. Nobody
    can log in before the address is verified."""
    CLOSED = "closed"
    """Nobody."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Registration:
    """Lets anybody make an account."""

    _accounts: AccountRepository
    _receipts: Receipts
    _changes: AccountChanges
    _counting: Counting
    _letters: Letters
    _screen: PasswordScreen
    _deferred: Deferred
    _pace: Pace
    _hasher: PasswordHasher
    _clock: Clock
    _secrets: SecretSource
    _fields: FieldExaminer
    mode: RegistrationMode = RegistrationMode.OPEN

    async def register(
        self, *, name: str, email: str, password: str, idempotency_key: str | None = None, client: Client | None = None
    ) -> User:
        """Make an account and return its user. Where there is mail, the address is sent a token that verifies it.

        Raises `InvalidFields` with all faults, `AddressTaken`, `RateLimited`, `Unavailable` in its kinds, and
        `RegistrationClosed` unless registration is open. However many register one address at once, in whatever spelling and
        on however many processes, one of them succeeds.

        A request with an idempotency key may be repeated for 24 hours, after any error too, and with the same arguments: once
        it has been answered, with a user or `AddressTaken`, every repeat gets that answer again, whatever has become of the
        account, and makes no other. (Only somebody who logs in before there was any answer, and deletes the account or leaves
        its address, makes room for a second one.) Raises `IdempotencyKeyReused` where the arguments differ. The key is any
        text; it should be as hard to guess as a UUID, since all callers share one space of keys.
        """
        self._confirm_mode(RegistrationMode.OPEN)
        outcome = await self._register(name, email, password, idempotency_key, client or Client())
        if outcome.user is None:
            raise AddressTaken
        return outcome.user

    async def register_privately(
        self, *, name: str, email: str, password: str, idempotency_key: str | None = None, client: Client | None = None
    ) -> None:
        """Make an account unless the address has one, and tell only the owner of the address, by mail, which of the two it was.

        Whoever owns the address and has an account already gets a token with which to reset the password. Raises the same
        errors as `register` but `AddressTaken`, and `RegistrationClosed` unless registration is private. It takes a whole
        number of `PACE`, so that the time tells nothing either.
        """
        self._confirm_mode(RegistrationMode.PRIVATE)
        client, began = client or Client(), self._clock.now()
        outcome = await self._register(name, email, password, idempotency_key, client)
        if outcome.user is None and not outcome.is_repeat:
            with contextlib.suppress(Unavailable):  # which would tell that there is an owner to be told
                await self._tell_owner_later(EmailAddress.parse(email), client)
        await self._pace.wait(PACE - (self._clock.now() - began) % PACE)

    def _confirm_mode(self, mode: RegistrationMode) -> None:
        if self.mode is not mode:
            raise RegistrationClosed

    async def _register(self, name: str, email: str, password: str, idempotency_key: str | None, client: Client) -> _Outcome:
        examined = self._fields.new_account(name=name, email=email, password=password)
        examined.raise_faults()
        assert examined.name is not None  # noqa: S101 (no fault means that each given field was parsed)
        assert examined.email is not None  # noqa: S101
        assert examined.password is not None  # noqa: S101
        asked = _Asked(name=examined.name, email=examined.email, password=examined.password, client=client)
        if idempotency_key is None:
            return await self._make(asked)
        return await self._make_once(asked, key_digest(idempotency_key), what_was_asked(idempotency_key, name, email, password))

    async def _make(self, asked: _Asked) -> _Outcome:
        await self._count(asked.client)
        # Hash first, claim the address then: a claim without its account makes others wait, so it must be short.
        password_hash = await self._hash(asked.password, began=self._clock.now())
        try:
            made = await self._add(asked, password_hash)
        except AddressTaken:
            return _Outcome(user=None)
        await self._welcome(made, asked.client)
        return _Outcome(user=made.account.user)

    async def _hash(self, password: str, *, began: datetime) -> str:
        await self._screen.raise_if_breached(password)
        return await self._hasher.hash(password, purpose=Purpose.REGISTRATION, spent=self._clock.now() - began)

    async def _count(self, client: Client) -> None:
        """Count a registration, whatever comes of it: one that is refused tells that the address has an account."""
        await self._counting.count_for_source(Limit.REGISTRATIONS, client)

    async def _add(self, asked: _Asked, password_hash: str, *, made_by: KeyDigest | None = None) -> _Made:
        now = self._clock.now()
        user_id = UserId(uuid7(now, self._secrets.random_bytes(UUID7_RANDOM_BYTES)))
        transition = register(
            user_id=user_id, name=asked.name, email=asked.email, password_hash=password_hash, now=now, made_by=made_by
        )
        account, token = transition.account, None
        if self._letters.enabled:
            token = self._letters.new_token(user_id)
            account = account.challenge(ChallengeKind.VERIFY_ADDRESS, token, now, self._letters.rules)
        return _Made(account=await self._changes.add(account, transition.events, client=asked.client), token=token)

    async def _welcome(self, made: _Made, client: Client) -> None:
        """Send the token that verifies the address. The account is there already, so nothing may fail for want of that."""
        user = made.account.user
        if made.token is None:
            return
        try:
            admitted = await self._letters.admit(user.email.key, client=client)
        except Unavailable:
            return
        if admitted:
            expires_at = user.created_at + self._letters.rules.verification
            self._letters.post(verification_mail(made.account, made.token, expires_at))

    async def _welcome_again(self, found: Snapshot, client: Client) -> None:
        """Mail another token where an earlier try made the account, and most likely did not come to mailing the first."""
        if not self._letters.enabled or found.account.user.email_verified:
            return
        now = self._clock.now()
        token = self._letters.new_token(found.account.user.id)

        def decide(account: Account) -> Transition:
            return Transition(account=account.challenge(ChallengeKind.VERIFY_ADDRESS, token, now, self._letters.rules))

        with contextlib.suppress(AccountsError):  # the account is there, and whoever misses the mail can ask for another
            account = await self._changes.apply(found.account.user.id, decide, client=client, first=found)
            await self._welcome(_Made(account=account, token=token), client)

    async def _tell_owner_later(self, address: EmailAddress, client: Client) -> None:
        if await self._letters.admit(address.key, client=client, is_reset=True):  # once, however often it is tried
            what = "telling of a registration that was tried"
            self._deferred.submit(lambda: self._tell_owner(address, client), what=what)

    async def _tell_owner(self, address: EmailAddress, client: Client) -> None:
        """Tell the owner of an address that somebody tried to register it, with a token for the case that it was they."""
        found = await self._accounts.find(address)
        if found is not None:
            await mail_reset_token(
                self._changes, self._letters, found, now=self._clock.now(), kind=AlreadyRegistered, client=client
            )

    async def _make_once(self, asked: _Asked, request: KeyDigest, text: str) -> _Outcome:
        """Make an account unless this request has, and remember the answer before it is given.

        A repeat may come at any point of the first try, or run beside it. What decides is the address, as ever: a repeat that
        finds it taken looks whether it was by an account that this very request made.
        """
        began = self._clock.now()
        receipt, counted = await self._receipt(request, text, asked.client)
        answer, is_repeat = receipt.answer, receipt.answer is not None
        if answer is None:
            if not counted:
                await self._count(asked.client)
            password_hash = await self._hash(asked.password, began=began)
            # Another try may have ended meanwhile, and its account have been deleted already.
            receipt = await self._receipts.read(request, self._clock.now()) or receipt
            answer = receipt.answer or await self._answer(asked, request, receipt, password_hash)
        if isinstance(answer, Refused):
            return _Outcome(user=None, is_repeat=is_repeat)
        user = User(
            id=answer.user_id,
            name=asked.name,
            email=asked.email,
            email_verified=False,
            created_at=answer.at,
            updated_at=answer.at,
        )
        return _Outcome(user=user, is_repeat=is_repeat)

    async def _receipt(self, request: KeyDigest, text: str, client: Client) -> tuple[Receipt, bool]:
        """Return the receipt of this very request, and whether it was counted; `IdempotencyKeyReused` where it is another's.

        A request that is seen for the first time is counted before anything is hashed or kept for it. So is one that asks for
        something else under a name that is known: what was asked includes a password, so it may be a guess.
        """
        began = self._clock.now()
        receipt = await self._receipts.read(request, began)
        counted = receipt is None
        if receipt is None:
            await self._count(client)
            fingerprint = await self._hasher.hash(text, purpose=Purpose.REGISTRATION)
            receipt = await self._receipts.open(request, fingerprint, self._clock.now())
            if receipt.fingerprint == fingerprint:
                return receipt, counted
        spent = self._clock.now() - began
        if not await self._hasher.verify(receipt.fingerprint, text, purpose=Purpose.REGISTRATION, spent=spent):
            if not counted:
                await self._count(client)
            raise IdempotencyKeyReused
        return receipt, counted

    async def _answer(self, asked: _Asked, request: KeyDigest, receipt: Receipt, password_hash: str) -> Answer:
        """Make the account, or find that this request or another has, and return the answer that stands in the receipt then."""
        try:
            made = await self._add(asked, password_hash, made_by=request)
        except AddressTaken:
            return await self._answer_taken(asked, request, receipt)
        user = made.account.user
        answer = Registered(user_id=user.id, at=user.created_at)
        stands = await self._close(request, receipt, answer)
        if stands != answer:
            # Another try was quicker, and its account was deleted before this one asked for the address. That was the answer.
            await self._changes.remove(user.id, lambda account: UserDeleted(user_id=account.user.id, at=self._clock.now()))
        else:
            await self._welcome(made, asked.client)
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
            stands = await self._close(request, receipt, Registered(user_id=user.id, at=user.created_at))
            await self._welcome_again(found, asked.client)
            return stands
        raise Contended("the account of this request is being changed by too many requests at once")

    async def _close(self, request: KeyDigest, receipt: Receipt, answer: Registered) -> Answer:
        try:
            return await self._receipts.close(request, receipt, answer)
        except StoreUnavailable as error:
            raise OutcomeUnknown("the account was made, and its receipt could not be written") from error
