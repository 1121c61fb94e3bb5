"""The account: one user, one credential and the sessions, as one unit of consistency.

Every rule that spans user, credential and sessions holds because they change together or not at all. Each change is a pure
function from an account to a `Transition`: the account as it is afterwards, and what happened. A change that changes nothing
returns the same account and no events.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import attrs

from pickguard.domain.model.activity import Activity, is_same_device, since_last_password, with_events
from pickguard.domain.model.challenges import Challenge, ChallengeKind, ChallengeRules, MailedToken
from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.errors import (
    DeletionPending,
    InvalidCredentials,
    InvalidToken,
    SessionNotFound,
    TokenSpent,
    WrongPassword,
)
from pickguard.domain.model.events import (
    AccountDisabled,
    AccountEnabled,
    AddressChangeCancelled,
    AddressChanged,
    AddressChangeRequested,
    AddressVerified,
    DeletionCancelled,
    DeletionScheduled,
    Event,
    PasswordChanged,
    PasswordRehashed,
    PasswordReset,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    SessionReauthenticated,
    UserRegistered,
    UserRenamed,
)
from pickguard.domain.model.idempotency import KeyDigest
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Client, Session, SessionDigest, SessionRules
from pickguard.domain.model.users import EmailAddress, PersonName, User


@attrs.frozen(kw_only=True)
class Account:
    """One user with their credential and sessions. The order of the sessions means nothing."""

    user: User
    credential: Credential
    sessions: tuple[Session, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    """What is to be proved by tokens that were mailed, one of each kind at most."""
    activity: tuple[Activity, ...] = ()
    """What happened lately, newest first."""
    made_by: KeyDigest | None = None
    """The request that made the account, if it named itself: its repeat is no other registration."""

    def session(self, digest: SessionDigest, now: datetime, rules: SessionRules) -> Session:
        """Return the live session that a token opens; `InvalidToken` where there is none."""
        for session in self.sessions:
            if session.digest == digest and session.is_live(now, rules):
                return session
        raise InvalidToken

    def live_sessions(self, now: datetime, rules: SessionRules) -> tuple[Session, ...]:
        """Return the sessions that still open something, newest first."""
        live = (session for session in self.sessions if session.is_live(now, rules))
        return tuple(sorted(live, key=lambda session: (session.created_at, session.id), reverse=True))

    def knows_device(self, client: Client) -> bool:
        """Tell whether the account was used from what seems to be this device with the present password."""
        known = (*(session.client for session in self.sessions), *(each.client for each in since_last_password(self.activity)))
        return any(is_same_device(each, client) for each in known)

    def with_activity(self, events: Sequence[Event]) -> Self:
        """Return the account with what has just happened among its activity."""
        return attrs.evolve(self, activity=with_events(self.activity, events))

    def rename(self, name: PersonName, now: datetime) -> "Transition":
        """Give the user another name."""
        if name == self.user.name:
            return Transition(account=self)
        return self._changed(now, UserRenamed(user_id=self.user.id, at=now), name=name)

    def change_address(self, email: EmailAddress, now: datetime) -> "Transition":
        """Give the user another e-mail address at once, not verified. That nobody else has it is for the repository to see to.

        A change that was asked for before is off, and whatever was mailed proves nothing any more.
        """
        if email == self.user.email and self.user.pending_email is None:
            return Transition(account=self)
        if email == self.user.email:
            return self._forget_pending_address(now)
        changed = self._changed(
            now, AddressChanged(user_id=self.user.id, at=now), email=email, email_verified=False, pending_email=None
        )
        return changed.and_then(lambda account: attrs.evolve(account, challenges=()))

    def request_address(
        self, email: EmailAddress, now: datetime, *, token: MailedToken | None, rules: ChallengeRules
    ) -> "Transition":
        """Note that the user wants another e-mail address, which takes effect when that proves the token.

        The address that the user has already calls off what was asked for before. Without a token there is nothing to prove
        it by yet; one may be issued later.
        """
        if email == self.user.email:
            return self._forget_pending_address(now)
        event = AddressChangeRequested(user_id=self.user.id, at=now)
        wanted = self if email == self.user.pending_email else self._changed(now, event, pending_email=email).account
        if token is None:
            account = wanted if wanted is self else wanted._without(ChallengeKind.CHANGE_ADDRESS)  # noqa: SLF001 (this class)
        else:
            account = wanted.challenge(ChallengeKind.CHANGE_ADDRESS, token, now, rules)
        return Transition(account=account, events=(event,))

    def challenge(self, kind: ChallengeKind, token: MailedToken, now: datetime, rules: ChallengeRules) -> Self:
        """Return the account with one more thing to be proved, by this token from now on and no other."""
        digest = token.digest(kind, self._address_of(kind), self.credential.epoch)
        challenge = Challenge(kind=kind, digest=digest, expires_at=now + rules.lifetime(kind))
        others = (each for each in self.challenges if each.kind is not kind)
        return attrs.evolve(self, challenges=(*others, challenge))

    def proved_by(self, token: MailedToken, now: datetime, *kinds: ChallengeKind) -> ChallengeKind:
        """Return which of these kinds of challenges a token meets; `TokenSpent` where it meets none."""
        for each in self.challenges:
            if each.kind in kinds:
                digest = token.digest(each.kind, self._address_of(each.kind), self.credential.epoch)
                if each.is_met_by(digest, now) and self.user.can_reset(now):
                    return each.kind
        raise TokenSpent

    def confirm_address(self, token: MailedToken, now: datetime) -> "Transition":
        """Take a token as proof of the address that it was mailed to: the present one is verified, a pending one takes effect.

        Raises `TokenSpent`. A token proves one thing once; what was mailed to an address that is left proves nothing more.
        """
        kind = self.proved_by(token, now, ChallengeKind.VERIFY_ADDRESS, ChallengeKind.CHANGE_ADDRESS)
        if kind is ChallengeKind.VERIFY_ADDRESS:
            event: Event = AddressVerified(user_id=self.user.id, at=now)
            verified = self._changed(now, event, email_verified=True)
            return verified.and_then(lambda account: account._without(kind))  # noqa: SLF001 (of this very class)
        event = AddressChanged(user_id=self.user.id, at=now)
        changed = self._changed(now, event, email=self.user.pending_email, email_verified=True, pending_email=None)
        return changed.and_then(lambda account: attrs.evolve(account, challenges=()))

    def confirm_declinable(self, token: MailedToken, now: datetime) -> None:
        """Return if whoever owns the address may have the account removed; `TokenSpent` if the address was verified."""
        self.proved_by(token, now, ChallengeKind.VERIFY_ADDRESS)
        if self.user.email_verified:
            raise TokenSpent

    def change_password(self, password_hash: str, now: datetime, *, keep: SessionDigest | None) -> "Transition":
        """Set another password and end every session but the one to `keep` (ASVS 5.0 7.4.3).

        Resets that were mailed are void, and a change of address that was asked for is off: whoever knew the old password may
        have asked for it. A verification stays: it proves a mailbox and no password, and whoever registered somebody else's
        address must not be able to void their "this was not me".
        """
        event = PasswordChanged(user_id=self.user.id, at=now)
        left = tuple(each for each in self.challenges if each.kind is ChallengeKind.VERIFY_ADDRESS)
        return self._set_password(password_hash, now, event, keep=keep, challenges=left)

    def reset_password(self, password_hash: str, token: MailedToken, now: datetime) -> "Transition":
        """Set a password for whoever reads the user's mail, which verifies the address; `TokenSpent` where that is not shown.

        All that was open before ends: every session, every challenge, a change of address. Whoever registered the address
        before its owner came has nothing left.
        """
        self.proved_by(token, now, ChallengeKind.RESET_PASSWORD)
        event = PasswordReset(user_id=self.user.id, at=now)
        return self._set_password(password_hash, now, event, keep=None, email_verified=True)

    def disable(self, now: datetime) -> "Transition":
        """Let nobody log in from now on, and end every session (ASVS 5.0 7.4.2)."""
        if self.user.disabled:
            return Transition(account=self)
        disabled = self._changed(now, AccountDisabled(user_id=self.user.id, at=now), disabled=True)
        cleared = disabled.and_then(lambda account: attrs.evolve(account, challenges=()))
        ended = cleared.account.end_sessions(now, reason=SessionEnd.DISABLED)
        return Transition(account=ended.account, events=(*cleared.events, *ended.events))

    def enable(self, now: datetime) -> "Transition":
        """Let the account be logged in to again."""
        if not self.user.disabled:
            return Transition(account=self)
        return self._changed(now, AccountEnabled(user_id=self.user.id, at=now), disabled=False)

    def schedule_deletion(self, now: datetime, grace: timedelta) -> "Transition":
        """Let the account go when the grace is over. Until then it can only be restored.

        Every session ends, and whatever was mailed proves nothing any more. The address stays the account's. One that goes
        already goes no later for that.
        """
        if self.user.deletes_at is not None:
            return Transition(account=self)
        deletes_at = now + grace
        event = DeletionScheduled(user_id=self.user.id, at=now, deletes_at=deletes_at)
        scheduled = self._changed(now, event, deletes_at=deletes_at)
        cleared = scheduled.and_then(lambda account: attrs.evolve(account, challenges=()))
        ended = cleared.account.end_sessions(now, reason=SessionEnd.DELETED)
        return Transition(account=ended.account, events=(*cleared.events, *ended.events))

    def restore(self, now: datetime) -> "Transition":
        """Keep the account after all. Raises `InvalidToken` where it is gone already."""
        if self.user.deletes_at is None:
            return Transition(account=self)
        if self.user.is_gone(now):
            raise InvalidToken
        return self._changed(now, DeletionCancelled(user_id=self.user.id, at=now), deletes_at=None)

    def rehash_password(self, password_hash: str, now: datetime) -> "Transition":
        """Store another hash of the same password: sessions stay, and so does the credential's epoch."""
        credential = attrs.evolve(self.credential, password_hash=password_hash)
        changed = attrs.evolve(self, credential=credential)
        return Transition(account=changed, events=(PasswordRehashed(user_id=self.user.id, at=now),))

    def confirm_epoch(self, epoch: int) -> None:
        """Raise `WrongPassword` where the password has been changed since it was verified."""
        if self.credential.epoch != epoch:
            raise WrongPassword

    def open_session(
        self, session: Session, *, email: EmailAddress, epoch: int, now: datetime, rules: SessionRules
    ) -> "Transition":
        """Log in, if the address and the credential are still those that were verified; else `InvalidCredentials`.

        So it is for an account that is disabled or gone. `DeletionPending` for one that can still be restored.
        Expired sessions go, and beyond the maximum the least recently used ones do.
        """
        is_other = self.credential.epoch != epoch or self.user.email.key != email.key
        if is_other or self.user.disabled or self.user.is_gone(now):
            raise InvalidCredentials
        if self.user.deletes_at is not None:
            raise DeletionPending(self.user.deletes_at)
        pruned = self.prune_sessions(now, rules)
        opened = attrs.evolve(pruned.account, sessions=(*pruned.account.sessions, session))
        capped = opened._cap_sessions(now, rules, keep=session)  # noqa: SLF001 (of this very class)
        event = SessionOpened(user_id=self.user.id, at=now, session_id=session.id)
        return Transition(account=capped.account, events=(*pruned.events, *capped.events, event))

    def touch_session(self, digest: SessionDigest, now: datetime, rules: SessionRules) -> "Transition":
        """Note that a session is in use. `InvalidToken` where it ended: a touch never revives one."""
        session = self.session(digest, now, rules)
        if not session.is_due_for_touch(now, rules):
            return Transition(account=self)
        return Transition(account=self._replace(session, attrs.evolve(session, last_used_at=now)))

    def reauthenticate_session(
        self, digest: SessionDigest, new_digest: SessionDigest, *, epoch: int, now: datetime, rules: SessionRules
    ) -> "Transition":
        """Note a fresh proof of the password: the session stays, its token is replaced (ASVS 5.0 7.2.4).

        Raises `InvalidToken` where the session ended, `WrongPassword` where the password changed since it was verified.
        """
        session = self.session(digest, now, rules)
        self.confirm_epoch(epoch)
        fresh = attrs.evolve(session, digest=new_digest, authenticated_at=now, last_used_at=now)
        event = SessionReauthenticated(user_id=self.user.id, at=now, session_id=session.id)
        return Transition(account=self._replace(session, fresh), events=(event,))

    def end_session(self, session_id: SessionId, now: datetime, rules: SessionRules, *, reason: SessionEnd) -> "Transition":
        """End one session; `SessionNotFound` where the account has no live one of that id."""
        if not any(session.id == session_id and session.is_live(now, rules) for session in self.sessions):
            raise SessionNotFound
        return self._end({session_id: reason}, now)

    def end_sessions(self, now: datetime, *, keep: SessionDigest | None = None, reason: SessionEnd) -> "Transition":
        """End every session but the one to `keep`."""
        return self._end({session.id: reason for session in self.sessions if session.digest != keep}, now)

    def prune_sessions(self, now: datetime, rules: SessionRules) -> "Transition":
        """Drop the sessions that have expired."""
        return self._end({session.id: SessionEnd.EXPIRED for session in self.sessions if not session.is_live(now, rules)}, now)

    def _cap_sessions(self, now: datetime, rules: SessionRules, *, keep: Session) -> "Transition":
        others = [session for session in self.sessions if session.id != keep.id]
        surplus = len(self.sessions) - rules.maximum
        stalest = sorted(others, key=lambda session: (session.last_used_at, session.id))[: max(surplus, 0)]
        return self._end({session.id: SessionEnd.TOO_MANY for session in stalest}, now)

    def _end(self, reasons: dict[SessionId, SessionEnd], now: datetime) -> "Transition":
        if not reasons:
            return Transition(account=self)
        left = tuple(session for session in self.sessions if session.id not in reasons)
        events = tuple(
            SessionEnded(user_id=self.user.id, at=now, session_id=session_id, reason=reason)
            for session_id, reason in reasons.items()
        )
        return Transition(account=attrs.evolve(self, sessions=left), events=events)

    def _replace(self, old: Session, new: Session) -> Self:
        return attrs.evolve(self, sessions=tuple(new if session is old else session for session in self.sessions))

    def _changed(self, now: datetime, *events: Event, **values: Any) -> "Transition":
        user = attrs.evolve(self.user, updated_at=self.user.later(now), **values)
        return Transition(account=attrs.evolve(self, user=user), events=events)

    def _set_password(
        self,
        password_hash: str,
        now: datetime,
        event: Event,
        *,
        keep: SessionDigest | None,
        challenges: tuple[Challenge, ...] = (),
        **values: Any,
    ) -> "Transition":
        credential = Credential(password_hash=password_hash, epoch=self.credential.epoch + 1, changed_at=now)
        changed = self._changed(now, pending_email=None, **values).account
        ended = attrs.evolve(changed, credential=credential, challenges=challenges).end_sessions(
            now, keep=keep, reason=SessionEnd.PASSWORD_CHANGED
        )
        return Transition(account=ended.account, events=(event, *ended.events))

    def _forget_pending_address(self, now: datetime) -> "Transition":
        if self.user.pending_email is None:
            return Transition(account=self)
        called_off = self._changed(now, AddressChangeCancelled(user_id=self.user.id, at=now), pending_email=None)
        return called_off.and_then(lambda account: account._without(ChallengeKind.CHANGE_ADDRESS))  # noqa: SLF001 (this class)

    def _without(self, kind: ChallengeKind) -> Self:
        return attrs.evolve(self, challenges=tuple(each for each in self.challenges if each.kind is not kind))

    def _address_of(self, kind: ChallengeKind) -> EmailAddress:
        """Return the address that a challenge of a kind is mailed to."""
        return (kind is ChallengeKind.CHANGE_ADDRESS and self.user.pending_email) or self.user.email


@attrs.frozen(kw_only=True)
class Transition:
    """The outcome of a change: the account afterwards, and what happened."""

    account: Account
    events: tuple[Event, ...] = ()

    def and_then(self, change: Callable[[Account], Account]) -> "Transition":
        """Return the transition with a further change, of which nothing more is to be told."""
        return attrs.evolve(self, account=change(self.account))


def register(
    *,
    user_id: UserId,
    name: PersonName,
    email: EmailAddress,
    password_hash: str,
    now: datetime,
    made_by: KeyDigest | None = None,
) -> Transition:
    """Make a new account, with no sessions and an address that is not verified."""
    user = User(id=user_id, name=name, email=email, email_verified=False, created_at=now, updated_at=now)
    credential = Credential(password_hash=password_hash, epoch=1, changed_at=now)
    return Transition(
        account=Account(user=user, credential=credential, made_by=made_by), events=(UserRegistered(user_id=user_id, at=now),)
    )
