"""The account: one user, one credential and the sessions, as one unit of consistency.

Every rule that spans user, credential and sessions holds because they change together or not at all. Each change is a pure
function from an account to a `Transition`: the account as it is afterwards, and what happened. A change that changes nothing
returns the same account and no events.
"""

from datetime import datetime
from typing import Self

import attrs

from pickguard.domain.model.credentials import Credential
from pickguard.domain.model.errors import InvalidCredentials, InvalidToken, SessionNotFound, WrongPassword
from pickguard.domain.model.events import (
    AddressChanged,
    Event,
    PasswordChanged,
    PasswordRehashed,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    SessionReauthenticated,
    UserRegistered,
    UserRenamed,
)
from pickguard.domain.model.idempotency import KeyDigest
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Session, SessionDigest, SessionRules
from pickguard.domain.model.users import EmailAddress, PersonName, User


@attrs.frozen(kw_only=True)
class Account:
    """One user with their credential and sessions. The order of the sessions means nothing."""

    user: User
    credential: Credential
    sessions: tuple[Session, ...] = ()
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

    def rename(self, name: PersonName, now: datetime) -> "Transition":
        """Give the user another name."""
        if name == self.user.name:
            return Transition(account=self)
        changed = attrs.evolve(self, user=self.user.changed(now, name=name))
        return Transition(account=changed, events=(UserRenamed(user_id=self.user.id, at=now),))

    def change_address(self, email: EmailAddress, now: datetime) -> "Transition":
        """Give the user another e-mail address, not verified. That nobody else has it is for the repository to see to."""
        if email == self.user.email:
            return Transition(account=self)
        changed = attrs.evolve(self, user=self.user.changed(now, email=email))
        return Transition(account=changed, events=(AddressChanged(user_id=self.user.id, at=now),))

    def change_password(self, password_hash: str, now: datetime, *, keep: SessionDigest | None) -> "Transition":
        """Set another password and end every session but the one to `keep` (ASVS 5.0 7.4.3)."""
        credential = Credential(password_hash=password_hash, epoch=self.credential.epoch + 1, changed_at=now)
        changed = attrs.evolve(self, credential=credential, user=self.user.changed(now))
        event = PasswordChanged(user_id=self.user.id, at=now)
        ended = changed.end_sessions(now, keep=keep, reason=SessionEnd.PASSWORD_CHANGED)
        return Transition(account=ended.account, events=(event, *ended.events))

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

        Expired sessions go, and beyond the maximum the least recently used ones do.
        """
        if self.credential.epoch != epoch or self.user.email.key != email.key:
            raise InvalidCredentials
        pruned = self.prune_sessions(now, rules)
        opened = attrs.evolve(pruned.account, sessions=(*pruned.account.sessions, session))
        capped = opened._cap_sessions(now, rules, keep=session)  # noqa: SLF001 (of this very class)
        event = SessionOpened(user_id=self.user.id, at=now, session_id=session.id, client=session.client)
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


@attrs.frozen(kw_only=True)
class Transition:
    """The outcome of a change: the account afterwards, and what happened."""

    account: Account
    events: tuple[Event, ...] = ()


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
