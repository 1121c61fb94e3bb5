"""What operators are shown, as JSON. Nothing in it opens anything: no password, no hash, no token."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import AccountView
from pickguard.ports.directory import DirectoryEntry


def render_page(
    entries: Sequence[tuple[DirectoryEntry, Sequence[Session]]], *, following: str | None, unreadable: Sequence[UUID]
) -> bytes:
    """Return a page of accounts, each with how many of its sessions are live."""
    return orjson.dumps(
        {
            "users": [{**_user(entry.user), "sessions": len(live)} for entry, live in entries],
            "next": following,
            "unreadable": [str(each) for each in unreadable],
        }
    )


def render_account(view: AccountView) -> bytes:
    """Return an account, and how a log-in to it stands."""
    tries = view.tries
    return orjson.dumps(
        {
            **_user(view.user),
            "sessions": len(view.sessions),
            "password_changed_at": _time(view.password_changed_at),
            "log_in": {
                "obstacles": [obstacle.value for obstacle in view.obstacles],
                "wrong_passwords": tries.run.count,
                "last_wrong_at": None if tries.run.last_at is None else _time(tries.run.last_at),
                "last_wrong_from": tries.run.last_source,
                "locked_for": _seconds(tries.locked_for),
                "sources": tries.sources,
                "limited_sources": tries.limited_sources,
                "limited_for": _seconds(tries.limited_for),
            },
        }
    )


def render_user(user: User) -> bytes:
    """Return a user."""
    return orjson.dumps(_user(user))


def render_sessions(sessions: Sequence[Session], rules: SessionRules) -> bytes:
    """Return the sessions of an account."""
    return orjson.dumps(
        {
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
    )


def _user(user: User) -> dict[str, Any]:
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
