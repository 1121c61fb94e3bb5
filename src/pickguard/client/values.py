"""What the service answers, as values. Members that are not known here are ignored, so that a newer service can be asked."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

import attrs

Value = TypeVar("Value")


def take(content: Mapping[str, Any], name: str, kind: type[Value]) -> Value:
    """Return a member. `KeyError` where it is missing, `TypeError` where it is of another type: a boolean is no number."""
    value = content[name]
    if type(value) is not kind:
        raise TypeError(name)
    return value


def take_optional(content: Mapping[str, Any], name: str, kind: type[Value]) -> Value | None:
    """Return a member, None where it is missing or null."""
    return None if content.get(name) is None else take(content, name, kind)


def take_object(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a member that is an object."""
    return take(content, name, dict)


def take_moment(content: Mapping[str, Any], name: str) -> datetime:
    """Return a member that is a time (RFC 3339), in UTC. `ValueError` for anything else."""
    moment = datetime.fromisoformat(take(content, name, str))
    if moment.tzinfo is None:
        raise ValueError(name)
    return moment.astimezone(UTC)


@attrs.frozen(kw_only=True)
class User:
    """A user. `pending_email` is an address that the user wants and has not confirmed; None where there is none."""

    id: str
    name: str
    email: str
    email_verified: bool
    created_at: datetime
    updated_at: datetime
    pending_email: str | None = None
    etag: str | None = attrs.field(default=None, eq=False)
    """The entity tag of this state (RFC 9110, section 8.8.3), for `if_match` and `if_none_match`; None within a log-in."""

    @classmethod
    def read(cls, content: Mapping[str, Any], *, etag: str | None = None) -> Self:
        """Read a User object."""
        return cls(
            id=take(content, "id", str),
            name=take(content, "name", str),
            email=take(content, "email", str),
            email_verified=take(content, "email_verified", bool),
            created_at=take_moment(content, "created_at"),
            updated_at=take_moment(content, "updated_at"),
            pending_email=take_optional(content, "pending_email", str),
            etag=etag,
        )


@attrs.frozen(kw_only=True)
class Session:
    """A session of a user. Its `id` is public and opens nothing; `last_used_at` may be a minute behind."""

    id: str
    created_at: datetime
    last_used_at: datetime
    authenticated_at: datetime
    expires_at: datetime
    user_agent: str | None
    ip: str | None
    current: bool
    """Whether it is the one that asked."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read a Session object."""
        return cls(
            id=take(content, "id", str),
            created_at=take_moment(content, "created_at"),
            last_used_at=take_moment(content, "last_used_at"),
            authenticated_at=take_moment(content, "authenticated_at"),
            expires_at=take_moment(content, "expires_at"),
            user_agent=take_optional(content, "user_agent", str),
            ip=take_optional(content, "ip", str),
            current=take(content, "current", bool),
        )


@attrs.frozen(kw_only=True)
class LoggedIn:
    """A session that was opened or proved anew, with its token. Whoever has the token is the user: keep it out of logs."""

    access_token: str = attrs.field(repr=False)
    expires_in: timedelta
    """How long the token opens something, unless it is used before or ended."""
    session: Session
    user: User

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read the answer to a log-in."""
        return cls(
            access_token=take(content, "access_token", str),
            expires_in=timedelta(seconds=take(content, "expires_in", int)),
            session=Session.read(take_object(content, "session")),
            user=User.read(take_object(content, "user")),
        )


@attrs.frozen(kw_only=True)
class Activity:
    """Something that happened to an account, `count` times: `logged_in`, `password_changed` and others, for people to see."""

    event: str
    at: datetime
    ip: str | None
    user_agent: str | None
    count: int

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read an entry of an activity."""
        return cls(
            event=take(content, "event", str),
            at=take_moment(content, "at"),
            ip=take_optional(content, "ip", str),
            user_agent=take_optional(content, "user_agent", str),
            count=take(content, "count", int),
        )


@attrs.frozen(kw_only=True)
class TokenInfo:
    """Whom an active token stands for (RFC 7662, section 2.2), and within which session."""

    user_id: str
    session_id: str
    name: str
    email: str
    email_verified: bool
    authenticated_at: datetime
    """When the password was proved last."""
    expires_at: datetime
    """When the session ends unless it is used before."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read the answer to an introspection of an active token."""
        return cls(
            user_id=take(content, "sub", str),
            session_id=take(content, "sid", str),
            name=take(content, "name", str),
            email=take(content, "email", str),
            email_verified=take(content, "email_verified", bool),
            authenticated_at=datetime.fromtimestamp(take(content, "auth_time", int), UTC),
            expires_at=datetime.fromtimestamp(take(content, "exp", int), UTC),
        )
