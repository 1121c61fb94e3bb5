"""What operators are shown, as JSON. Nothing in it opens anything: no password, no hash, no token.

The docstrings of the classes, and what is said of their members, stand in the API's description.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final, TypedDict

import orjson

from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import AccountView, Obstacle
from pickguard.entrypoints.http.problems import time_text
from pickguard.entrypoints.http.schemas import (
    ShownAccountSession,
    ShownWholeUser,
    shown_account_session,
    shown_whole_user,
)
from pickguard.entrypoints.http.shapes import TIME, described
from pickguard.ports.directory import DirectoryEntry

_EARLIER: Final = "2026-11-22T17:55:06.530Z"
_NOW: Final = "2026-11-22T17:55:06.614Z"

_SESSIONS = Annotated[int, described("How many sessions are live.", minimum=0, example=2)]


class ShownAccountUser(ShownWholeUser):
    """An account, as operators see it."""


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


class ShownAccountSessions(TypedDict):
    """The live sessions of an account, newest first."""

    sessions: list[ShownAccountSession]


def render_page(
    entries: Sequence[tuple[DirectoryEntry, Sequence[Session]]], *, following: str | None, unreadable: Sequence[UserId]
) -> bytes:
    """Return a page of accounts, each with how many of its sessions are live."""
    shown: ShownAccounts = {
        "users": [{**shown_whole_user(entry.user), "sessions": len(live)} for entry, live in entries],
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
        "last_wrong_at": None if tries.run.last_at is None else time_text(tries.run.last_at),
        "last_wrong_from": tries.run.last_source,
        "locked_for": _seconds(tries.locked_for),
        "sources": tries.sources,
        "limited_sources": tries.limited_sources,
        "limited_for": _seconds(tries.limited_for),
    }
    shown: ShownAccount = {
        **shown_whole_user(view.user),
        "sessions": len(view.sessions),
        "password_changed_at": time_text(view.password_changed_at),
        "log_in": log_in,
    }
    return orjson.dumps(shown)


def render_user(user: User) -> bytes:
    """Return a user."""
    return orjson.dumps(shown_whole_user(user))


def render_sessions(sessions: Sequence[Session], rules: SessionRules) -> bytes:
    """Return the sessions of an account."""
    shown: ShownAccountSessions = {"sessions": [shown_account_session(session, rules) for session in sessions]}
    return orjson.dumps(shown)


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else max(0, round(span.total_seconds()))
