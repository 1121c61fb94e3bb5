"""Facts about accounts, stated after they were stored. Plain data: no credential is ever in one."""

import enum
from datetime import datetime
from typing import ClassVar

import attrs

from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.sessions import Client


class SessionEnd(enum.Enum):
    """Why a session ended."""

    LOGGED_OUT = "logged_out"
    REVOKED = "revoked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a reason, not a password)
    EXPIRED = "expired"
    TOO_MANY = "too_many"
    DISABLED = "disabled"
    DELETED = "deleted"


class Outcome(enum.Enum):
    """How what somebody wanted ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    """They could not prove who they are."""
    LIMITED = "limited"
    """They tried too often."""


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened to an account, in UTC, and from where it was caused, as far as that is known.

    `user_id` is None only where no account is concerned.
    """

    outcome: ClassVar[Outcome] = Outcome.SUCCESS

    user_id: UserId | None
    at: datetime
    client: Client = Client()
    by_operator: bool = False
    """Whether an operator did it, and not its user or somebody who may be."""


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
class AddressChangeRequested(Event):
    """The user wants another e-mail address, which has to confirm it first."""


@attrs.frozen(kw_only=True)
class AddressChangeCancelled(Event):
    """The user keeps the e-mail address after all."""


@attrs.frozen(kw_only=True)
class AddressChanged(Event):
    """The user has another e-mail address."""


@attrs.frozen(kw_only=True)
class AddressVerified(Event):
    """The e-mail address was shown to be the user's."""


@attrs.frozen(kw_only=True)
class PasswordChanged(Event):
    """The user chose a new password."""


@attrs.frozen(kw_only=True)
class ResetRequested(Event):
    """Somebody, who may be anybody, asked for a new password by mail."""


@attrs.frozen(kw_only=True)
class PasswordReset(Event):
    """Whoever reads the user's mail chose a new password. Nothing is left of what was open before."""


@attrs.frozen(kw_only=True)
class PasswordRehashed(Event):
    """The same password was hashed again, with today's parameters."""


@attrs.frozen(kw_only=True)
class BreachCheckSkipped(Event):
    """A new password could not be looked up among those of breaches, and was let pass. At a registration nobody has it yet."""


@attrs.frozen(kw_only=True)
class DataExported(Event):
    """All that is held about the user was handed out to them."""


@attrs.frozen(kw_only=True)
class DeletionScheduled(Event):
    """The user has deleted the account, and can restore it until `deletes_at`.

    When it goes then, nobody is there to tell: a store erases it by itself, and there is no further event.
    """

    deletes_at: datetime


@attrs.frozen(kw_only=True)
class DeletionCancelled(Event):
    """The account was restored before its time was over."""


@attrs.frozen(kw_only=True)
class UserDeleted(Event):
    """The account and all that belonged to it are gone."""

    declined: bool = False
    """Whether it was by the owner of its address, who had not made it."""


@attrs.frozen(kw_only=True)
class AccountDisabled(Event):
    """Nobody can log in to the account until it is enabled again."""


@attrs.frozen(kw_only=True)
class AccountEnabled(Event):
    """The account can be logged in to again."""


@attrs.frozen(kw_only=True)
class SessionOpened(Event):
    """A log-in succeeded."""

    session_id: SessionId


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

    outcome: ClassVar[Outcome] = Outcome.FAILURE


@attrs.frozen(kw_only=True)
class PasswordRefused(Event):
    """A wrong password was given as proof within a session."""

    outcome: ClassVar[Outcome] = Outcome.FAILURE

    session_id: SessionId


@attrs.frozen(kw_only=True)
class ServiceRefused(Event):
    """Another service asked about a token and could not prove which service it is."""

    outcome: ClassVar[Outcome] = Outcome.FAILURE


@attrs.frozen(kw_only=True)
class FailuresNoted(Event):
    """Wrong passwords, of which the user is told now that the right one was given: so many, the last of them `at` this time."""

    outcome: ClassVar[Outcome] = Outcome.FAILURE

    count: int


@attrs.frozen(kw_only=True)
class LimitReached(Event):
    """Something was tried too often, and refused. `user_id` is None where no account is concerned."""

    outcome: ClassVar[Outcome] = Outcome.LIMITED

    limit: Limit
