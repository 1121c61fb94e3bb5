"""Making an account."""

import attrs

from pickguard.domain.model.accounts import register
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, UserId, uuid7
from pickguard.domain.model.users import User
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.fields import FieldExaminer
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.hashing import PasswordHasher
from pickguard.ports.secrets import SecretSource


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Registration:
    """Lets anybody make an account."""

    _accounts: AccountRepository
    _changes: AccountChanges
    _hasher: PasswordHasher
    _clock: Clock
    _secrets: SecretSource
    _fields: FieldExaminer

    async def register(self, *, name: str, email: str, password: str) -> User:
        """Make an account and return its user.

        Raises `InvalidFields` with all faults, `AddressTaken`, and `Unavailable` in its kinds. However many register one
        address at once, in whatever spelling and on however many processes, one of them succeeds.
        """
        examined = self._fields.new_account(name=name, email=email, password=password)
        examined.raise_faults()
        assert examined.name is not None  # noqa: S101 (no fault means that each given field was parsed)
        assert examined.email is not None  # noqa: S101
        assert examined.password is not None  # noqa: S101
        # Hash first, claim the address then: a claim without its account makes others wait, so it must be short.
        password_hash = await self._hasher.hash(examined.password)
        now = self._clock.now()
        transition = register(
            user_id=UserId(uuid7(now, self._secrets.random_bytes(UUID7_RANDOM_BYTES))),
            name=examined.name,
            email=examined.email,
            password_hash=password_hash,
            now=now,
        )
        await self._accounts.add(transition.account, operation=self._changes.new_operation())
        self._changes.publish(*transition.events)
        return transition.account.user
