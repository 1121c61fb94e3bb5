"""What happened to an account lately, as its user is shown it."""

import enum
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import attrs

from pickguard.domain.model.events import (
    AccountDisabled,
    AccountEnabled,
    AddressChanged,
    AddressChangeRequested,
    AddressVerified,
    DataExported,
    DeletionCancelled,
    DeletionScheduled,
    Event,
    FailuresNoted,
    PasswordChanged,
    PasswordReset,
    ResetRequested,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    SessionReauthenticated,
    UserRegistered,
    UserRenamed,
)
from pickguard.domain.model.limits import source_of
from pickguard.domain.model.sessions import Client

ACTIVITY_MAXIMUM: Final = 32
"""How many entries an account keeps. The oldest go first; among the older half, those that prove no use."""

_VERSIONS: Final = re.compile(r"[0-9][0-9._]*")


class ActivityKind(enum.Enum):
    """What happened."""

    REGISTERED = "registered"
    LOGGED_IN = "logged_in"
    LOG_INS_FAILED = "log_ins_failed"
    """Wrong passwords, told when the right one came: how many there were, and the last of them."""
    REAUTHENTICATED = "reauthenticated"
    LOGGED_OUT = "logged_out"
    SESSIONS_ENDED = "sessions_ended"
    RENAMED = "renamed"
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    EMAIL_VERIFIED = "email_verified"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (what happened, not a password)
    RESET_REQUESTED = "reset_requested"
    PASSWORD_RESET = "password_reset"  # noqa: S105 (what happened, not a password)
    DISABLED = "disabled"
    ENABLED = "enabled"
    DATA_EXPORTED = "data_exported"
    DELETION_SCHEDULED = "deletion_scheduled"
    DELETION_CANCELLED = "deletion_cancelled"


@attrs.frozen(kw_only=True)
class Activity:
    """One entry: what happened, when, and from where as far as that is known. `count` times, where it was the same thing."""

    kind: ActivityKind
    at: datetime
    client: Client = Client()
    count: int = 1


_KINDS: Final[dict[type[Event], ActivityKind]] = {
    UserRegistered: ActivityKind.REGISTERED,
    SessionOpened: ActivityKind.LOGGED_IN,
    SessionReauthenticated: ActivityKind.REAUTHENTICATED,
    UserRenamed: ActivityKind.RENAMED,
    AddressChangeRequested: ActivityKind.EMAIL_CHANGE_REQUESTED,
    AddressChanged: ActivityKind.EMAIL_CHANGED,
    AddressVerified: ActivityKind.EMAIL_VERIFIED,
    PasswordChanged: ActivityKind.PASSWORD_CHANGED,
    PasswordReset: ActivityKind.PASSWORD_RESET,
    ResetRequested: ActivityKind.RESET_REQUESTED,
    FailuresNoted: ActivityKind.LOG_INS_FAILED,
    AccountDisabled: ActivityKind.DISABLED,
    AccountEnabled: ActivityKind.ENABLED,
    DataExported: ActivityKind.DATA_EXPORTED,
    DeletionScheduled: ActivityKind.DELETION_SCHEDULED,
    DeletionCancelled: ActivityKind.DELETION_CANCELLED,
}
_NEW_PASSWORD: Final = {ActivityKind.PASSWORD_CHANGED, ActivityKind.PASSWORD_RESET}
_USES: Final = {ActivityKind.REGISTERED, ActivityKind.LOGGED_IN, *_NEW_PASSWORD}


def with_events(activity: Sequence[Activity], events: Sequence[Event]) -> tuple[Activity, ...]:
    """Return the entries, newest first, with what has just happened. What follows from something else is no entry of its own.

    Anybody can ask for a reset of anybody's password, so all of these share one entry: they push nothing else out.
    """
    entries = list(activity)
    for entry in _entries(events):
        same = [each for each in entries if each.kind is entry.kind is ActivityKind.RESET_REQUESTED]
        count = entry.count + sum(each.count for each in same)
        entries = [attrs.evolve(entry, count=count), *(each for each in entries if each not in same)]
        if len(entries) > ACTIVITY_MAXIMUM:
            entries.remove(_least_missed(entries))
    return tuple(entries)


def _least_missed(entries: Sequence[Activity]) -> Activity:
    """Return the oldest of the older half that proves no use, or else the oldest: what proves use makes its source known."""
    older = entries[: ACTIVITY_MAXIMUM // 2 : -1]
    return next((each for each in older if each.kind not in _USES), entries[-1])


def since_last_password(activity: Sequence[Activity]) -> Iterator[Activity]:
    """Return the entries that prove use with the present password, newest first: a new password is a new beginning of trust."""
    for each in activity:
        if each.kind in _USES:
            yield each
        if each.kind in _NEW_PASSWORD:
            return


def knows_source(activity: Sequence[Activity], source: str | None) -> bool:
    """Tell whether there was use with the present password from a source (see `source_of`)."""
    return source is not None and any(source_of(each.client.ip) == source for each in since_last_password(activity))


def is_same_device(one: Client, other: Client) -> bool:
    """Tell whether two requests seem to come from one device: the same source, and the same program in whatever version."""
    return source_of(one.ip) == source_of(other.ip) and _program(one) == _program(other)


def _program(client: Client) -> str | None:
    return None if client.user_agent is None else _VERSIONS.sub("", client.user_agent)


def _entries(events: Sequence[Event]) -> Iterator[Activity]:
    revoked = 0
    for event in events:
        if isinstance(event, SessionEnded):
            revoked += event.reason is SessionEnd.REVOKED
            kind = ActivityKind.LOGGED_OUT if event.reason is SessionEnd.LOGGED_OUT else None
        else:
            kind = _KINDS.get(type(event))
        if kind is not None:
            count = event.count if isinstance(event, FailuresNoted) else 1
            yield Activity(kind=kind, at=event.at, client=event.client, count=count)
    if revoked:
        last = events[-1]
        yield Activity(kind=ActivityKind.SESSIONS_ENDED, at=last.at, client=last.client, count=revoked)
