"""What operators do to accounts."""

import enum
from collections.abc import Callable
from datetime import datetime
from typing import Final

import attrs

from pickguard.domain.model.accounts import Account, Transition, register
from pickguard.domain.model.activity import Activity
from pickguard.domain.model.errors import AccountNotFound, InvalidToken
from pickguard.domain.model.events import Event, FailuresNoted, SessionEnd, UserDeleted
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, SessionId, UserId, uuid7
from pickguard.domain.model.mail import AccountRestored, PasswordChanged
from pickguard.domain.model.sessions import Client, Session, SessionRules
from pickguard.domain.model.tries import Standing
from pickguard.domain.model.users import EmailAddress, User
from pickguard.domain.services.changes import AccountChanges
from pickguard.domain.services.fields import FieldExaminer
from pickguard.domain.services.letters import Letters
from pickguard.domain.services.password_checks import PasswordChecks
from pickguard.domain.services.screening import PasswordScreen
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.directory import AccountDirectory, DirectoryPage
from pickguard.ports.hashing import PasswordHasher, Purpose
from pickguard.ports.limits import RateLimiter
from pickguard.ports.secrets import SecretSource

UNKNOWN_PASSWORD_BYTES: Final = 32
"""Of randomness in a password that nobody knows."""


class Obstacle(enum.Enum):
    """Why a log-in with the right password would be refused at this moment."""

    DISABLED = "disabled"
    DELETED = "deleted"
    """Its user has deleted it. Until `User.deletes_at` it can be restored, by its user or by an operator."""
    UNVERIFIED = "unverified"
    """The address is not verified, and nobody logs in before that where registration is private."""
    LOCKED = "locked"
    """There were too many wrong passwords in a row. Who logs in from where the account was used lately gets in all the same,
    unless they came from there."""
    LIMITED = "limited"
    """There were too many wrong passwords from some client addresses; from others a log-in succeeds."""


@attrs.frozen(kw_only=True)
class AccountView:
    """All that an operator is shown of an account. There is nothing in it that opens anything."""

    at: datetime
    """The moment at which it was so."""
    user: User
    sessions: tuple[Session, ...]
    """Those that are live, newest first."""
    activity: tuple[Activity, ...]
    """What happened lately, newest first."""
    password_changed_at: datetime
    tries: Standing
    """The wrong passwords that count at this moment."""
    obstacles: tuple[Obstacle, ...]
    """Why a log-in would fail now, whatever password is given; empty where nothing stands in the way."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Administration:
    """Lists, shows and changes accounts for operators. Whoever calls this is trusted to have the right to.

    Every event says that an operator did it. All methods may raise `Unavailable` in its kinds.
    """

    _accounts: AccountRepository
    _directory: AccountDirectory
    _changes: AccountChanges
    _checks: PasswordChecks
    _limiter: RateLimiter
    _letters: Letters
    _screen: PasswordScreen
    _hasher: PasswordHasher
    _clock: Clock
    _secrets: SecretSource
    _fields: FieldExaminer
    _session_rules: SessionRules
    _verified_only: bool = False
    """Whether nobody can log in before the address is verified."""

    async def page(
        self, *, after: str | None = None, limit: int = 100, wanted: Callable[[User], bool] | None = None
    ) -> DirectoryPage:
        """Return accounts page by page: see `AccountDirectory.page`, for `InvalidCursor` too.

        To look for a part of an address this way is to look at every account. For a whole one, ask `find`.
        """
        return await self._directory.page(after=after, limit=limit, wanted=wanted)

    async def find(self, email: str) -> User:
        """Return the user who has an e-mail address, in whatever spelling. One look-up.

        Raises `AccountNotFound`, and `InvalidFields` for what is no address.
        """
        found = await self._accounts.find(EmailAddress.parse(email))
        if found is None:
            raise AccountNotFound
        return found.account.user

    async def show(self, user_id: UserId) -> AccountView:
        """Return what there is to know about an account, and why a log-in to it would fail. Raises `AccountNotFound`."""
        snapshot = await self._accounts.get(user_id)
        if snapshot is None:
            raise AccountNotFound
        account, now = snapshot.account, self._clock.now()
        tries = await self._limiter.review(account.user.email.key, now)
        return AccountView(
            at=now,
            user=account.user,
            sessions=account.live_sessions(now, self._session_rules),
            activity=account.activity,
            password_changed_at=account.credential.changed_at,
            tries=tries,
            obstacles=tuple(self._obstacles(account.user, tries)),
        )

    def live_sessions(self, sessions: tuple[Session, ...]) -> tuple[Session, ...]:
        """Return those of a directory's entry that still open something."""
        now = self._clock.now()
        return tuple(each for each in sessions if each.is_live(now, self._session_rules))

    async def create(self, *, name: str, email: str, password: str | None, email_verified: bool = False) -> User:
        """Make an account, also where nobody can register. No mail is sent.

        Without a password the account gets one that nobody knows: its user chooses one through a reset by mail, or an operator
        sets one. Raises `InvalidFields` with all faults, and `AddressTaken`.
        """
        examined = self._fields.new_account(name=name, email=email, password=password)
        examined.raise_faults()
        assert examined.name is not None  # noqa: S101 (no fault means that each given field was parsed)
        assert examined.email is not None  # noqa: S101
        if examined.password is not None:
            await self._screen.raise_if_breached(examined.password)
        chosen = examined.password or self._secrets.random_bytes(UNKNOWN_PASSWORD_BYTES).hex()
        password_hash = await self._hasher.hash(chosen, purpose=Purpose.REGISTRATION)
        now = self._clock.now()
        made = register(
            user_id=UserId(uuid7(now, self._secrets.random_bytes(UUID7_RANDOM_BYTES))),
            name=examined.name,
            email=examined.email,
            password_hash=password_hash,
            now=now,
        )
        account = attrs.evolve(made.account, user=attrs.evolve(made.account.user, email_verified=email_verified))
        return (await self._changes.add(account, _by_operator(made.events))).user

    async def disable(self, user_id: UserId) -> User:
        """Let nobody log in to an account, whatever they know; its sessions and all that was mailed end with it.

        The answer to a log-in, and to a request to reset the password, is that for an unknown address. Raises
        `AccountNotFound`.
        """
        return (await self._apply(user_id, lambda account: account.disable(self._clock.now()))).user

    async def enable(self, user_id: UserId) -> User:
        """Let an account be logged in to again. Raises `AccountNotFound`."""
        return (await self._apply(user_id, lambda account: account.enable(self._clock.now()))).user

    async def restore(self, user_id: UserId) -> User:
        """Keep an account that its user has deleted and that is not gone yet. Its user is told where there is mail.

        They log in with the password that they had. One that was not deleted stays as it is. Raises `AccountNotFound`.
        """
        is_restored = False

        def decide(account: Account) -> Transition:
            nonlocal is_restored
            is_restored = account.user.deletes_at is not None
            return account.restore(self._clock.now())

        account = await self._apply(user_id, decide)
        if is_restored:
            user, now = account.user, self._clock.now()
            await self._letters.notify(account, AccountRestored(to=user.email, name=user.name.value, at=now, client=Client()))
        return account.user

    async def set_password(self, user_id: UserId, password: str) -> User:
        """Set another password, and end every session, every reset that was mailed and a lock for too many wrong passwords.

        Where there is mail the user is told. Raises `AccountNotFound`, and `InvalidFields` for a password that breaks the
        rules.
        """
        snapshot = await self._accounts.get(user_id)
        if snapshot is None:
            raise AccountNotFound
        wanted = self._fields.new_password(snapshot.account.user, password)
        wanted.raise_faults()
        assert wanted.password is not None  # noqa: S101 (it was given)
        began = self._clock.now()
        await self._screen.raise_if_breached(wanted.password, user_id=user_id)
        spent = self._clock.now() - began
        password_hash = await self._hasher.hash(wanted.password, purpose=Purpose.PROOF, spent=spent)
        # Before the password, as at a reset: a lock must not outlive it.
        failures = await self._checks.forgive(snapshot.account)

        def decide(account: Account) -> Transition:
            changed = account.change_password(password_hash, self._clock.now(), keep=None)
            return Transition(account=changed.account, events=(*failures, *changed.events))

        account = await self._apply(user_id, decide)
        notice = PasswordChanged(
            to=account.user.email,
            name=account.user.name.value,
            at=account.credential.changed_at,
            client=Client(),
            by_reset=False,
            by_operator=True,
        )
        await self._letters.notify(account, notice)
        return account.user

    async def end_session(self, user_id: UserId, session_id: SessionId) -> None:
        """End one session. Raises `AccountNotFound`, and `SessionNotFound` where the account has no live one of that id."""

        def decide(account: Account) -> Transition:
            return account.end_session(session_id, self._clock.now(), self._session_rules, reason=SessionEnd.REVOKED)

        await self._apply(user_id, decide)

    async def revoke_sessions(self, user_id: UserId) -> int:
        """End every session of an account, and return how many were live. Raises `AccountNotFound`."""
        ended = 0

        def decide(account: Account) -> Transition:
            nonlocal ended
            now = self._clock.now()
            ended = len(account.live_sessions(now, self._session_rules))
            return account.end_sessions(now, reason=SessionEnd.REVOKED)

        await self._apply(user_id, decide)
        return ended

    async def delete(self, user_id: UserId) -> None:
        """Delete an account with all that belongs to it. Its address is free at once. Raises `AccountNotFound`."""

        def decide(account: Account) -> Event:
            return UserDeleted(user_id=account.user.id, at=self._clock.now(), by_operator=True)

        try:
            await self._changes.remove(user_id, decide)
        except InvalidToken:
            raise AccountNotFound from None

    async def _apply(self, user_id: UserId, decide: Callable[[Account], Transition]) -> Account:
        def decide_as_operator(account: Account) -> Transition:
            transition = decide(account)
            return attrs.evolve(transition, events=_by_operator(transition.events))

        try:
            return await self._changes.apply(user_id, decide_as_operator)
        except InvalidToken:
            raise AccountNotFound from None

    def _obstacles(self, user: User, tries: Standing) -> list[Obstacle]:
        found = {
            Obstacle.DISABLED: user.disabled,
            Obstacle.DELETED: user.deletes_at is not None,
            Obstacle.UNVERIFIED: self._verified_only and not user.email_verified,
            Obstacle.LOCKED: tries.locked_for is not None,
            Obstacle.LIMITED: tries.limited_sources > 0,
        }
        return [obstacle for obstacle, stands in found.items() if stands]


def _by_operator(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return the events as an operator's; the wrong passwords before them are somebody else's."""
    return tuple(each if isinstance(each, FailuresNoted) else attrs.evolve(each, by_operator=True) for each in events)
