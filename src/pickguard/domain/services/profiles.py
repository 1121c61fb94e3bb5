"""Changing and deleting one's own account."""

from collections.abc import Callable

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.errors import InvalidToken, PreconditionFailed, ReauthenticationRequired
from pickguard.domain.model.events import Event, UserDeleted
from pickguard.domain.model.sessions import SessionRules, Token
from pickguard.domain.model.users import User
from pickguard.domain.services.authentication import Authentication
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.fields import Examined, FieldExaminer
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.hashing import PasswordHasher, Purpose

Precondition = Callable[[User], bool]
"""A caller's condition on the user as it is just before the change, for instance that an ETag still matches."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Profiles:
    """Lets a user change and delete their account."""

    _accounts: AccountRepository
    _changes: AccountChanges
    _authentication: Authentication
    _hasher: PasswordHasher
    _clock: Clock
    _fields: FieldExaminer
    _session_rules: SessionRules

    async def change(
        self,
        token: str,
        *,
        name: str | None = None,
        email: str | None = None,
        password: str | None = None,
        current_password: str | None = None,
        precondition: Precondition | None = None,
    ) -> User:
        """Change what is given, all of it in one step, and return the user. What equals the present value is no change.

        Another e-mail address or password needs `current_password`. A new password ends every other session. Raises
        `InvalidToken`, `InvalidFields` with all faults, `WrongPassword`, `AddressTaken`, `PreconditionFailed`, and
        `Unavailable` in its kinds; after any of them but `OutcomeUnknown`, nothing has changed.
        """
        parsed = Token.parse(token)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise InvalidToken
        before = snapshot.account
        session = before.session(parsed.digest, self._clock.now(), self._session_rules)
        wanted = self._fields.changes(before.user, name=name, email=email, password=password, current_password=current_password)
        wanted.raise_faults()
        began = self._clock.now()
        needs_proof = wanted.email is not None or wanted.password is not None
        if needs_proof:
            assert wanted.current_password is not None  # noqa: S101 (no fault means that it was given)
            await self._authentication.prove(before, session, wanted.current_password)
        password_hash = None
        if wanted.password is not None and wanted.password != wanted.current_password:
            spent = self._clock.now() - began
            password_hash = await self._hasher.hash(wanted.password, purpose=Purpose.PROOF, spent=spent)

        def decide(account: Account) -> Transition:
            now = self._clock.now()
            account.session(parsed.digest, now, self._session_rules)
            if precondition is not None and not precondition(account.user):
                raise PreconditionFailed
            if needs_proof:
                account.confirm_epoch(before.credential.epoch)
            steps: list[Callable[[Account], Transition]] = []
            if wanted.name is not None:
                new_name = wanted.name
                steps.append(lambda present: present.rename(new_name, now))
            if wanted.email is not None:
                new_email = wanted.email
                steps.append(lambda present: present.change_address(new_email, now))
            if password_hash is not None:
                steps.append(lambda present: present.change_password(password_hash, now, keep=parsed.digest))
            return _in_one_step(account, steps)

        account = await self._changes.apply(parsed.user_id, decide, first=snapshot)
        return account.user

    def examine_changes(
        self, user: User, *, name: str | None, email: str | None, password: str | None, current_password: str | None
    ) -> Examined:
        """Say what is wrong with a change before it is asked for; see `FieldExaminer.changes`."""
        return self._fields.changes(user, name=name, email=email, password=password, current_password=current_password)

    async def delete(self, token: str, *, precondition: Precondition | None = None) -> None:
        """Delete the user, the credential, every session and the claim on the address. They go in one step.

        Raises `InvalidToken`, `PreconditionFailed`, and `ReauthenticationRequired` where the session's last proof of the
        password is too old.
        """
        parsed = Token.parse(token)

        def decide(account: Account) -> Event:
            now = self._clock.now()
            session = account.session(parsed.digest, now, self._session_rules)
            if not session.is_freshly_authenticated(now, self._session_rules):
                raise ReauthenticationRequired(self._session_rules.reauthentication_window)
            if precondition is not None and not precondition(account.user):
                raise PreconditionFailed
            return UserDeleted(user_id=account.user.id, at=now)

        await self._changes.remove(parsed.user_id, decide)


def _in_one_step(account: Account, steps: list[Callable[[Account], Transition]]) -> Transition:
    events: tuple[Event, ...] = ()
    for step in steps:
        transition = step(account)
        account, events = transition.account, (*events, *transition.events)
    return Transition(account=account, events=events)
