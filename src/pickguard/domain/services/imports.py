"""Bringing accounts over from another system."""

from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from pickguard.domain.model.accounts import register
from pickguard.domain.model.errors import Fault, InvalidFields
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
    ) -> User:
        """Make an account whose password is the one that was hashed, and return its user.

        The hash is stored as it is, and replaced by one of today's kind at the first log-in with the right password; sessions
        do not notice. `created_at` is when the person registered in the other system, now if it is not given; milliseconds
        count. The user's id is made from it.

        Raises `InvalidFields` with all faults: those of name and address, ``invalid_password_hash`` where the hash is of no
        form that is known here or costs more than is obeyed, ``invalid_created_at`` for a time without a zone, before 1970 or
        to come. Raises `AddressTaken`, and `Unavailable` in its kinds, as a registration does; to repeat what ended with
        `OutcomeUnknown` is safe, since one address has one account.
        """
        now = self._clock.now()
        examined = self._fields.new_account(name=name, email=email, password=None)
        faults = [*examined.faults]
        if not self._hasher.can_verify(password_hash):
            detail = "This is no hash of a form that is known here, or it costs more to verify than is allowed."
            faults.append(Fault(field="password_hash", code="invalid_password_hash", detail=detail))
        if created_at is not None and (created_at.utcoffset() is None or not _OLDEST <= created_at <= now):
            detail = "A time of registration has a time zone, and lies between 1970 and now."
            faults.append(Fault(field="created_at", code="invalid_created_at", detail=detail))
        if faults:
            raise InvalidFields(tuple(faults))
        assert examined.name is not None  # noqa: S101 (no fault means that each given field was parsed)
        assert examined.email is not None  # noqa: S101
        registered_at = now if created_at is None else _OLDEST + (created_at - _OLDEST) // _MILLISECOND * _MILLISECOND
        made = register(
            user_id=UserId(uuid7(registered_at, self._secrets.random_bytes(UUID7_RANDOM_BYTES))),
            name=examined.name,
            email=examined.email,
            password_hash=password_hash,
            now=registered_at,
        ).account
        user = attrs.evolve(made.user, email_verified=email_verified, updated_at=now)
        await self._accounts.add(attrs.evolve(made, user=user), operation=self._changes.new_operation())
        self._changes.publish(UserImported(user_id=user.id, at=now))
        return user
