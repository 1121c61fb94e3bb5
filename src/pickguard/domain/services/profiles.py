"""Changing and deleting one's own account."""

from collections.abc import Callable
from datetime import datetime, timedelta

import attrs

from pickguard.domain.model.accounts import Account, Transition
from pickguard.domain.model.activity import Activity
from pickguard.domain.model.challenges import MailedToken
from pickguard.domain.model.errors import AddressTaken, InvalidToken, PreconditionFailed, ReauthenticationRequired
from pickguard.domain.model.events import Event, FailuresNoted, UserDeleted
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import (
    AddressChangeRequested,
    AddressWanted,
    ConfirmNewAddress,
    DeletionScheduled,
    PasswordChanged,
)
from pickguard.domain.model.sessions import Client, SessionRules, Token
from pickguard.domain.model.users import EmailAddress, User
from pickguard.domain.services.authentication import Authentication
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.counting import Counting
from pickguard.domain.services.fields import Examined, FieldExaminer
from pickguard.domain.services.letters import Letters
from pickguard.domain.services.screening import PasswordScreen
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
    _counting: Counting
    _letters: Letters
    _screen: PasswordScreen
    _hasher: PasswordHasher
    _clock: Clock
    _fields: FieldExaminer
    _session_rules: SessionRules
    _conceals_users: bool = False
    """Whether nobody is told which addresses have an account."""
    _deletion_grace: timedelta = timedelta(0)
    """How long an account can be restored after its user has deleted it; nothing where it goes at once."""

    async def change(
        self,
        token: str,
        *,
        name: str | None = None,
        email: str | None = None,
        password: str | None = None,
        current_password: str | None = None,
        precondition: Precondition | None = None,
        client: Client | None = None,
    ) -> User:
        """Change what is given, all of it in one step, and return the user. What equals the present value is no change.

        Another e-mail address or password needs `current_password`. A new password ends every other session. Where there is
        mail, another address is only noted as pending until it confirms, the present one is told of that, and a new password
        is told as well. Raises `InvalidToken`, `InvalidFields` with all faults, `WrongPassword`, `RateLimited`,
        `AddressTaken`, `PreconditionFailed`, and `Unavailable` in its kinds; after any of them but `OutcomeUnknown`, nothing
        has changed.
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
        failures: tuple[FailuresNoted, ...] = ()
        if needs_proof:
            assert wanted.current_password is not None  # noqa: S101 (no fault means that it was given)
            failures = await self._authentication.prove(before, session, wanted.current_password, client=client)
        password_hash = await self._hash_other(before, wanted, began)
        if precondition is not None and not precondition(before.user):  # before anybody is mailed for it
            raise PreconditionFailed
        new_address = await self._prepare(before, wanted.email, client)

        def decide(account: Account) -> Transition:
            now = self._clock.now()
            account.session(parsed.digest, now, self._session_rules)
            if precondition is not None and not precondition(account.user):
                raise PreconditionFailed
            if needs_proof:
                account.confirm_epoch(before.credential.epoch)
            steps: list[Callable[[Account], Transition]] = [lambda present: Transition(account=present, events=failures)]
            if (new_name := wanted.name) is not None:
                steps.append(lambda present: present.rename(new_name, now))
            if password_hash is not None:
                steps.append(lambda present: present.change_password(password_hash, now, keep=parsed.digest))
            # After the password, which voids what was asked for before it.
            if (new_email := wanted.email) is not None:
                steps.append(lambda present: self._change_address(present, new_email, now, new_address))
            return _in_one_step(account, steps)

        account = await self._changes.apply(parsed.user_id, decide, client=client, first=snapshot)
        await self._tell(account, client or Client(), new_address, is_new_password=password_hash is not None)
        return account.user

    async def activity(self, token: str) -> tuple[Activity, ...]:
        """Return what happened to the user's account lately, newest first; `InvalidToken` where the token opens nothing."""
        parsed = Token.parse(token)
        snapshot = await self._accounts.get(parsed.user_id)
        if snapshot is None:
            raise InvalidToken
        snapshot.account.session(parsed.digest, self._clock.now(), self._session_rules)
        return snapshot.account.activity

    async def _hash_other(self, account: Account, wanted: Examined, began: datetime) -> str | None:
        if wanted.password is None or wanted.password == wanted.current_password:
            return None
        await self._screen.raise_if_breached(wanted.password, user_id=account.user.id)
        spent = self._clock.now() - began
        return await self._hasher.hash(wanted.password, purpose=Purpose.PROOF, spent=spent)

    async def _prepare(self, account: Account, email: EmailAddress | None, client: Client | None) -> "_NewAddress | None":
        """Look whether another address can be had, and prepare what will be mailed to it; None where nothing will.

        A pending address is no claim on it: this only spares people a mail that could not be of use to them.
        """
        if email is None or email == account.user.email:
            return None
        # Who is refused an address learns that it has an account, as at a registration, and is counted with those.
        await self._counting.count_for_source(Limit.REGISTRATIONS, client)
        if not self._letters.enabled:
            return None
        owner = await self._accounts.find_holder(email)
        taken_by = owner.user if owner is not None and owner.user.id != account.user.id else None
        if taken_by is not None and not self._conceals_users:
            raise AddressTaken
        token = self._letters.new_token(account.user.id) if await self._letters.admit(email.key, client=client) else None
        return _NewAddress(email=email, token=token, taken_by=taken_by)

    def _change_address(
        self, account: Account, email: EmailAddress, now: datetime, prepared: "_NewAddress | None"
    ) -> Transition:
        if not self._letters.enabled:
            return account.change_address(email, now)
        token = prepared.token if prepared else None
        return account.request_address(email, now, token=token, rules=self._letters.rules)

    async def _tell(
        self, account: Account, client: Client, new_address: "_NewAddress | None", *, is_new_password: bool
    ) -> None:
        """Mail what was changed."""
        user, at = account.user, account.credential.changed_at
        if is_new_password:
            notice = PasswordChanged(to=user.email, name=user.name.value, at=at, client=client, by_reset=False)
            await self._letters.notify(account, notice)
        if new_address is not None and user.pending_email == new_address.email:
            await self._tell_of_address(new_address, account, client)

    async def _tell_of_address(self, new: "_NewAddress", account: Account, client: Client) -> None:
        user, now = account.user, self._clock.now()
        if new.token is not None and new.taken_by is not None:
            owner = new.taken_by
            self._letters.post(AddressWanted(to=owner.email, name=owner.name.value, at=now, client=client))
        elif new.token is not None:
            expires_at = now + self._letters.rules.verification
            mail = ConfirmNewAddress(to=new.email, name=user.name.value, token=new.token.reveal(), expires_at=expires_at)
            self._letters.post(mail)
        notice = AddressChangeRequested(to=user.email, name=user.name.value, at=now, client=client, new_address=new.email)
        await self._letters.notify(account, notice)

    def examine_changes(
        self, user: User, *, name: str | None, email: str | None, password: str | None, current_password: str | None
    ) -> Examined:
        """Say what is wrong with a change before it is asked for; see `FieldExaminer.changes`."""
        return self._fields.changes(user, name=name, email=email, password=password, current_password=current_password)

    async def delete(
        self, token: str, *, precondition: Precondition | None = None, client: Client | None = None
    ) -> datetime | None:
        """Delete the user, the credential, every session and the claim on the address. They go in one step.

        Returns None where they have gone. Where there is a grace, returns when they go: until then the account keeps its
        address and can only be restored (`Authentication.restore`). Every session and all that was mailed end at once, and
        the user is told by mail. Raises `InvalidToken`, `PreconditionFailed`, and `ReauthenticationRequired` where the
        session's last proof of the password is too old.
        """
        parsed = Token.parse(token)

        def confirmed(account: Account) -> datetime:
            now = self._clock.now()
            session = account.session(parsed.digest, now, self._session_rules)
            if not session.is_freshly_authenticated(now, self._session_rules):
                raise ReauthenticationRequired(self._session_rules.reauthentication_window)
            if precondition is not None and not precondition(account.user):
                raise PreconditionFailed
            return now

        if not self._deletion_grace:
            await self._changes.remove(
                parsed.user_id,
                lambda account: UserDeleted(user_id=account.user.id, at=confirmed(account)),
                client=client,
            )
            return None
        account = await self._changes.apply(
            parsed.user_id,
            lambda account: account.schedule_deletion(confirmed(account), self._deletion_grace),
            client=client,
        )
        user, deletes_at = account.user, account.user.deletes_at
        assert deletes_at is not None  # noqa: S101 (it was set just now)
        notice = DeletionScheduled(
            to=user.email,
            name=user.name.value,
            at=deletes_at - self._deletion_grace,
            client=client or Client(),
            deletes_at=deletes_at,
        )
        await self._letters.notify(account, notice)
        return deletes_at


@attrs.frozen(kw_only=True)
class _NewAddress:
    """An address that a user wants, the token to be mailed to it unless it was mailed too often, and who has it already."""

    email: EmailAddress
    token: MailedToken | None
    taken_by: User | None


def _in_one_step(account: Account, steps: list[Callable[[Account], Transition]]) -> Transition:
    events: tuple[Event, ...] = ()
    for step in steps:
        transition = step(account)
        account, events = transition.account, (*events, *transition.events)
    return Transition(account=account, events=events)
