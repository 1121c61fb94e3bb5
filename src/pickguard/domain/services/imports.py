"""Bringing accounts over from another system, or back from an export of this one."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import attrs

from pickguard.domain.model.accounts import Account, register
from pickguard.domain.model.errors import Conflict, Fault, InvalidFields
from pickguard.domain.model.events import UserImported
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, UserId, uuid7
from pickguard.domain.model.users import User
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.fields import FieldExaminer
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.hashing import PasswordHasher
from pickguard.ports.secrets import SecretSource

_OLDEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SOONEST_END: Final = timedelta(minutes=1)
"""Whoever deletes an account is given as long, at least, to restore it."""


@attrs.frozen(kw_only=True)
class Candidate:
    """An account as another system, or an export, has it."""

    name: str
    email: str
    password_hash: str = attrs.field(repr=False)
    email_verified: bool = False
    created_at: datetime | None = None
    """When the person registered there; now if it is not given. Milliseconds count."""
    disabled: bool = False
    deletes_at: datetime | None = None
    """When the account goes for good, if its user has deleted it. Milliseconds count."""
    id: UUID | None = None
    """The id to keep, a UUIDv7 (RFC 9562); where it is not given, one is made from `created_at`."""


@attrs.frozen(kw_only=True)
class Imported:
    """A user who was brought over, and whether that was now: the account may have been there, by this id, before."""

    user: User
    is_new: bool


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Imports:
    """Makes accounts for people who have one in another system, with the passwords that they have there.

    For operators, not for clients: whoever may call this says which password opens an account.
    """

    _accounts: AccountRepository
    _changes: AccountChanges
    _hasher: PasswordHasher
    _clock: Clock
    _secrets: SecretSource
    _fields: FieldExaminer

    async def add(
        self,
        *,
        name: str,
        email: str,
        password_hash: str,
        email_verified: bool = False,
        created_at: datetime | None = None,
        disabled: bool = False,
        deletes_at: datetime | None = None,
        id: UUID | None = None,  # noqa: A002 (what it is called everywhere)
    ) -> User:
        """Make an account whose password is the one that was hashed, and return its user.

        See `Candidate` for what the arguments mean, `examine` and `bring_over` for what is promised and raised.
        """
        candidate = Candidate(
            name=name,
            email=email,
            password_hash=password_hash,
            email_verified=email_verified,
            created_at=created_at,
            disabled=disabled,
            deletes_at=deletes_at,
            id=id,
        )
        return (await self.bring_over(self.examine(candidate))).user

    def examine(self, candidate: Candidate) -> Account:
        """Return the account that a candidate is to have. Nothing is stored.

        Raises `InvalidFields` with all faults that can be seen without the store: those of name and address,
        ``invalid_password_hash`` where the hash is of no form that is known here or costs more than is obeyed,
        ``invalid_created_at`` for a time without a zone, before 1970 or to come, ``invalid_deletes_at`` for one without a zone
        or that is not at least a minute ahead, and ``invalid_id`` for an id that is no UUIDv7.
        """
        now, created_at = self._clock.now(), candidate.created_at
        examined = self._fields.new_account(name=candidate.name, email=candidate.email, password=None)
        faults = [*examined.faults]
        if not self._hasher.can_verify(candidate.password_hash):
            detail = "This is no hash of a form that is known here, or it costs more to verify than is allowed."
            faults.append(Fault(field="password_hash", code="invalid_password_hash", detail=detail))
        if created_at is not None and (created_at.utcoffset() is None or not _OLDEST <= created_at <= now):
            detail = "A time of registration has a time zone, and lies between 1970 and now."
            faults.append(Fault(field="created_at", code="invalid_created_at", detail=detail))
        end = candidate.deletes_at
        if end is not None and (end.utcoffset() is None or end < now + _SOONEST_END):
            detail = (
                "An account whose end has come, or comes within a minute, is brought over no more. The time has a time zone."
            )
            faults.append(Fault(field="deletes_at", code="invalid_deletes_at", detail=detail))
        if candidate.id is not None and candidate.id.version != 7:  # noqa: PLR2004 (UUIDv7; an id of another variant has no version)
            detail = "An id that is to be kept is a UUID of version 7; without one, the account gets a new id."
            faults.append(Fault(field="id", code="invalid_id", detail=detail))
        if faults:
            raise InvalidFields(tuple(faults))
        assert examined.name is not None  # noqa: S101 (no fault means that each given field was parsed)
        assert examined.email is not None  # noqa: S101
        registered_at = now if created_at is None else _in_milliseconds(created_at)
        new_id = candidate.id or uuid7(registered_at, self._secrets.random_bytes(UUID7_RANDOM_BYTES))
        made = register(
            user_id=UserId(new_id),
            name=examined.name,
            email=examined.email,
            password_hash=candidate.password_hash,
            now=registered_at,
        ).account
        user = attrs.evolve(
            made.user,
            email_verified=candidate.email_verified,
            disabled=candidate.disabled,
            deletes_at=None if end is None else _in_milliseconds(end),
            updated_at=now,
        )
        return attrs.evolve(made, user=user)

    async def bring_over(self, account: Account) -> Imported:
        """Store an account that `examine` has returned. Its password is the one that was hashed.

        The hash is stored as it is, and replaced by one of today's kind at the first log-in with the right password; sessions
        do not notice.

        Raises `InvalidFields` with ``id_taken`` where the id belongs to an account with another address; `AddressTaken`, and
        `Unavailable` in its kinds, as a registration does. To repeat what ended with `OutcomeUnknown` is safe: a repeat finds
        the account by its id, and leaves it as it is, whatever has become of it.
        """
        try:
            await self._accounts.add(account, operation=self._changes.new_operation())
        except Conflict:
            there = await self._changes.confirmed(account.user.id)
            if there is not None and there.user.email.key == account.user.email.key:
                return Imported(user=there.user, is_new=False)
            detail = "Another account, with another address, has this id."
            raise InvalidFields((Fault(field="id", code="id_taken", detail=detail),)) from None
        self._changes.publish(UserImported(user_id=account.user.id, at=self._clock.now()))
        return Imported(user=account.user, is_new=True)


def _in_milliseconds(moment: datetime) -> datetime:
    return _OLDEST + (moment - _OLDEST) // _MILLISECOND * _MILLISECOND
