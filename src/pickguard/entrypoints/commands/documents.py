"""What commands print for programs: JSON, and the members that it has.

A user has the members of the HTTP API's User, ``disabled`` and ``deletes_at``. Programs have to put up with more members
than these.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from pickguard.domain.model.activity import Activity
from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.tries import Standing
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import AccountView


def user_document(user: User) -> dict[str, object]:
    """Return a user."""
    return {
        "id": str(user.id),
        "name": user.name.value,
        "email": user.email.value,
        "email_verified": user.email_verified,
        "pending_email": None if user.pending_email is None else user.pending_email.value,
        "created_at": written(user.created_at),
        "updated_at": written(user.updated_at),
        "disabled": user.disabled,
        "deletes_at": None if user.deletes_at is None else written(user.deletes_at),
    }


def listed_document(user: User, sessions: Sequence[Session]) -> dict[str, object]:
    """Return a user as one of many: how many sessions are live, and when the last of them was used."""
    last = last_use(sessions)
    return {
        **user_document(user),
        "sessions": len(sessions),
        "last_used_at": None if last is None else written(last),
    }


def view_document(view: AccountView, rules: SessionRules) -> dict[str, object]:
    """Return all that is shown of an account."""
    return {
        "user": user_document(view.user),
        "password_changed_at": written(view.password_changed_at),
        "obstacles": [each.value for each in view.obstacles],
        "failures": _standing_document(view.tries),
        "sessions": [_session_document(each, rules) for each in view.sessions],
        "activity": [_activity_document(each) for each in view.activity],
    }


def _standing_document(tries: Standing) -> dict[str, object]:
    return {
        "count": tries.run.count,
        "last_at": None if tries.run.last_at is None else written(tries.run.last_at),
        "last_source": tries.run.last_source,
        "sources": tries.sources,
        "limited_sources": tries.limited_sources,
        "limited_for_seconds": _seconds(tries.limited_for),
        "locked_for_seconds": _seconds(tries.locked_for),
    }


def _session_document(session: Session, rules: SessionRules) -> dict[str, object]:
    return {
        "id": str(session.id),
        "created_at": written(session.created_at),
        "last_used_at": written(session.last_used_at),
        "authenticated_at": written(session.authenticated_at),
        "expires_at": written(session.expires_at(rules)),
        "user_agent": session.client.user_agent,
        "ip": session.client.ip,
    }


def _activity_document(activity: Activity) -> dict[str, object]:
    return {
        "kind": activity.kind.value,
        "at": written(activity.at),
        "count": activity.count,
        "user_agent": activity.client.user_agent,
        "ip": activity.client.ip,
    }


def last_use(sessions: Sequence[Session]) -> datetime | None:
    """Return when any of the sessions was used last."""
    return max((each.last_used_at for each in sessions), default=None)


def written(moment: datetime) -> str:
    """Write a time as RFC 3339 has it, in UTC."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 3)


def as_line(document: object) -> str:
    """Write a document in one line, in ASCII: no terminal and no encoding can make anything else of it."""
    return json.dumps(document, separators=(",", ":"))


def as_text(document: object) -> str:
    """Write a document so that a person can read it, too."""
    return json.dumps(document, indent=2)
