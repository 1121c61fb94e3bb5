"""Values to try templates with: each page with all that can stand on it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.errors import Fault
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.sessions import Client, Session, SessionDigest
from pickguard.domain.model.users import EmailAddress, PersonName, User
from pickguard.entrypoints.pages.forms import Form

_AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
_ADDRESS = EmailAddress(value="ada@example.com", key="ada@example.com")


def samples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each template with values for it."""
    fields = ("name", "email", "password", "current_password", "token")
    faults = tuple(Fault(field=name, code="required", detail="Fill this in.") for name in fields)
    form = Form(
        values={"name": "Ada", "email": "ada@example.com", "token": "pgm_token", "next": "", "keep": "yes"},
        faults=faults,
        alert="No.",
    )
    me = User(
        id=UserId(UUID(int=1)),
        name=PersonName("Ada"),
        email=_ADDRESS,
        email_verified=False,
        created_at=_AT,
        updated_at=_AT,
        pending_email=_ADDRESS,
    )
    session = Session(
        id=SessionId(UUID(int=2)),
        digest=SessionDigest(b""),
        created_at=_AT,
        last_used_at=_AT,
        authenticated_at=_AT,
        client=Client(ip="192.0.2.1", user_agent="Firefox/130.0 Linux"),
    )
    yield "sign_in.html", {"form": form, "notice": "Done."}
    yield "sign_up.html", {"form": form, "key": "key"}
    for name in ("profile", "password", "address", "export", "delete"):
        yield f"{name}.html", {"me": me, "form": form, "notice": "Done."}
    yield "sessions.html", {"me": me, "form": form, "current": [session], "others": [session]}
    yield "activity.html", {"me": me, "entries": [Activity(kind=kind, at=_AT, count=2) for kind in ActivityKind]}
    for name in ("verify", "decline", "forgot", "reset"):
        yield f"{name}.html", {"form": form}
    yield "message.html", {"title": "Title", "text": "Text.", "back": "sign-in", "code": True}
    yield "problem.html", {"title": "Title", "text": "Text.", "reference": "reference"}
