"""What operators are shown, as JSON. Nothing in it opens anything: no password, no hash, no token.

The docstrings of the classes, and what is said of their members, stand in the API's description.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, TypedDict

import orjson

from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import AccountView, Obstacle
from pickguard.entrypoints.http.shapes import TIME, UUID, described
from pickguard.ports.directory import DirectoryEntry

_USER_ID: Final = "01a20465-bea2-7890-b8a2-323b036c17a3"
_SESSION_ID: Final = "01a20465-bef6-7a56-903c-b26f4fa2fa4a"
_EARLIER: Final = "2026-11-22T17:55:06.530Z"
_NOW: Final = "2026-11-22T17:55:06.614Z"
_LATER: Final = "2026-12-06T17:55:06.614Z"

_NAMED = Annotated[str, described("What the user is called for good (UUIDv7).", **UUID, example=_USER_ID)]
_NAME = Annotated[str, described("What the person wants to be called.", example="Ada Lovelace")]
_EMAIL = Annotated[str, described("The address, as it was given.", example="ada@example.com")]
_VERIFIED = Annotated[bool, described("Whether it was shown that mail to this address reaches them.", example=True)]
_PENDING = Annotated[
    str | None,
    described("The address that is to take the place of email; null if there is none.", examples=[None, "new@example.com"]),
]
_DISABLED = Annotated[bool, described("Whether nobody can log in to the account, whatever they know.", example=False)]
_DELETES = Annotated[
    str | None,
    described(
        "When the account goes for good, if its user has deleted it, in UTC; else null.", **TIME, examples=[None, _LATER]
    ),
]
_CREATED = Annotated[str, described("When the account was made, in UTC.", **TIME, example=_EARLIER)]
_UPDATED = Annotated[str, described("When anything of the user changed last, in UTC.", **TIME, example=_EARLIER)]
_SESSIONS = Annotated[int, described("How many sessions are live.", minimum=0, example=2)]


class ShownAccountUser(TypedDict):
    """An account, as operators see it."""

    id: _NAMED
    name: _NAME
    email: _EMAIL
    email_verified: _VERIFIED
    pending_email: _PENDING
    disabled: _DISABLED
    deletes_at: _DELETES
    created_at: _CREATED
    updated_at: _UPDATED


class ShownListedAccount(ShownAccountUser):
    """An account in a list."""

    sessions: _SESSIONS


class ShownAccounts(TypedDict):
    """Some of the accounts."""

    users: list[ShownListedAccount]
    next: Annotated[
        str | None, described("The cursor of the page that follows; null where this one is the last.", examples=[None, "1a2b"])
    ]
    unreadable: Annotated[
        list[str], described("The ids of accounts on this page that are damaged, or of a newer version.", example=[])
    ]


class ShownStanding(TypedDict):
    """How a log-in stands: what would refuse it now, and which wrong passwords there were."""

    obstacles: Annotated[
        list[str],
        described(
            "Why a log-in with the right password would be refused: "
            f"{', '.join(each.value for each in Obstacle)}. Empty where nothing stands in the way.",
            example=["limited"],
        ),
    ]
    wrong_passwords: Annotated[int, described("How many there were since the last right one.", minimum=0, example=10)]
    last_wrong_at: Annotated[str | None, described("When the last of them was, in UTC.", **TIME, example=_NOW)]
    last_wrong_from: Annotated[str | None, described("From which address the last of them came.", example="192.0.2.7")]
    locked_for: Annotated[
        int | None,
        described("For how many seconds every log-in is refused but from where the account was used.", examples=[None, 3600]),
    ]
    sources: Annotated[int, described("From how many addresses wrong ones came that count.", minimum=0, example=1)]
    limited_sources: Annotated[int, described("How many of these are refused.", minimum=0, example=1)]
    limited_for: Annotated[int | None, described("For how many seconds the last of these still is.", minimum=0, example=896)]


class ShownAccount(ShownListedAccount):
    """An account, and how a log-in to it stands."""

    password_changed_at: Annotated[str, described("When the password was set, in UTC.", **TIME, example=_EARLIER)]
    log_in: ShownStanding


class ShownAccountSession(TypedDict):
    """A session of an account. Its id opens nothing."""

    id: Annotated[str, described("What the session is called (UUIDv7).", **UUID, example=_SESSION_ID)]
    created_at: Annotated[str, described("When the log-in was, in UTC.", **TIME, example=_NOW)]
    last_used_at: Annotated[str, described("When it was used last, in UTC; up to 60 seconds behind.", **TIME, example=_NOW)]
    authenticated_at: Annotated[str, described("When the password was proved last, in UTC.", **TIME, example=_NOW)]
    expires_at: Annotated[str, described("When it ends, unless it is used before, in UTC.", **TIME, example=_LATER)]
    user_agent: Annotated[str | None, described("What the program of the log-in calls itself.", example="curl/8.14.1")]
    ip: Annotated[str | None, described("The address that the log-in came from.", example="192.0.2.7")]


class ShownAccountSessions(TypedDict):
    """The live sessions of an account, newest first."""

    sessions: list[ShownAccountSession]


def render_page(
    entries: Sequence[tuple[DirectoryEntry, Sequence[Session]]], *, following: str | None, unreadable: Sequence[UserId]
) -> bytes:
    """Return a page of accounts, each with how many of its sessions are live."""
    shown: ShownAccounts = {
        "users": [{**_user(entry.user), "sessions": len(live)} for entry, live in entries],
        "next": following,
        "unreadable": [str(each) for each in unreadable],
    }
    return orjson.dumps(shown)


def render_account(view: AccountView) -> bytes:
    """Return an account, and how a log-in to it stands."""
    tries = view.tries
    log_in: ShownStanding = {
        "obstacles": [obstacle.value for obstacle in view.obstacles],
        "wrong_passwords": tries.run.count,
        "last_wrong_at": None if tries.run.last_at is None else _time(tries.run.last_at),
        "last_wrong_from": tries.run.last_source,
        "locked_for": _seconds(tries.locked_for),
        "sources": tries.sources,
        "limited_sources": tries.limited_sources,
        "limited_for": _seconds(tries.limited_for),
    }
    shown: ShownAccount = {
        **_user(view.user),
        "sessions": len(view.sessions),
        "password_changed_at": _time(view.password_changed_at),
        "log_in": log_in,
    }
    return orjson.dumps(shown)


def render_user(user: User) -> bytes:
    """Return a user."""
    return orjson.dumps(_user(user))


def render_sessions(sessions: Sequence[Session], rules: SessionRules) -> bytes:
    """Return the sessions of an account."""
    shown: ShownAccountSessions = {
        "sessions": [
            {
                "id": str(session.id),
                "created_at": _time(session.created_at),
                "last_used_at": _time(session.last_used_at),
                "authenticated_at": _time(session.authenticated_at),
                "expires_at": _time(session.expires_at(rules)),
                "user_agent": session.client.user_agent,
                "ip": session.client.ip,
            }
            for session in sessions
        ]
    }
    return orjson.dumps(shown)


def _user(user: User) -> ShownAccountUser:
    return {
        "id": str(user.id),
        "name": user.name.value,
        "email": user.email.value,
        "email_verified": user.email_verified,
        "pending_email": None if user.pending_email is None else user.pending_email.value,
        "disabled": user.disabled,
        "deletes_at": None if user.deletes_at is None else _time(user.deletes_at),
        "created_at": _time(user.created_at),
        "updated_at": _time(user.updated_at),
    }


def _time(moment: datetime) -> str:
    """Write a moment as RFC 3339 does, to the millisecond, in UTC with Z."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else max(0, round(span.total_seconds()))
