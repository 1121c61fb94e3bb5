"""Facts about accounts, stated after they were stored. Plain data: no credential is ever in one."""

import enum
from datetime import datetime

import attrs

from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Client


class SessionEnd(enum.Enum):
    """Why a session ended."""

    LOGGED_OUT = "logged_out"
    REVOKED = "revoked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a reason, not a password)
    EXPIRED = "expired"
    TOO_MANY = "too_many"


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened to an account, in UTC. `user_id` is None only where no account is concerned."""

    user_id: UserId | None
    at: datetime


@attrs.frozen(kw_only=True)
class UserRegistered(Event):
    """An account was made."""


@attrs.frozen(kw_only=True)
class UserImported(Event):
    """An account was brought over from another system."""


@attrs.frozen(kw_only=True)
class UserRenamed(Event):
    """The user has another name."""


@attrs.frozen(kw_only=True)
class AddressChanged(Event):
    """The user has another e-mail address."""


@attrs.frozen(kw_only=True)
class PasswordChanged(Event):
    """The user chose a new password."""


@attrs.frozen(kw_only=True)
class PasswordRehashed(Event):
    """The same password was hashed again, with today's parameters."""


@attrs.frozen(kw_only=True)
class BreachCheckSkipped(Event):
    """A new password could not be looked up among those of breaches, and was let pass. At a registration nobody has it yet."""


@attrs.frozen(kw_only=True)
class UserDeleted(Event):
    """The account and all that belonged to it are gone."""


@attrs.frozen(kw_only=True)
class SessionOpened(Event):
    """A log-in succeeded."""

    session_id: SessionId
    client: Client


@attrs.frozen(kw_only=True)
class SessionReauthenticated(Event):
    """The password was proved again within a session, which has a new token since."""

    session_id: SessionId


@attrs.frozen(kw_only=True)
class SessionEnded(Event):
    """A session's token is refused from now on."""

    session_id: SessionId
    reason: SessionEnd


@attrs.frozen(kw_only=True)
class LogInRefused(Event):
    """A log-in failed. `user_id` is None where the address has no account."""

    client: Client


@attrs.frozen(kw_only=True)
class PasswordRefused(Event):
    """A wrong password was given as proof within a session."""

    session_id: SessionId
