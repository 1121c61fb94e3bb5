"""The bodies of requests as attrs classes, and the objects of answers as JSON."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import attrs
import cattrs
import orjson
from cattrs.errors import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError

from pickguard.domain.model.activity import Activity
from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.users import User
from pickguard.domain.services.authentication import LoggedIn, Principal
from pickguard.domain.services.sessions import SessionList

Body = TypeVar("Body")


@attrs.frozen(kw_only=True)
class RegistrationBody:
    """``POST /v1/users``."""

    name: str
    email: str
    password: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class LogInBody:
    """``POST /v1/sessions``."""

    email: str
    password: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class ReauthenticationBody:
    """``POST /v1/sessions/current/reauthentication``."""

    password: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class ChangeBody:
    """``PATCH /v1/users/me``. A member that is left out is not changed; null is no value of any of them."""

    name: str | None = None
    email: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    current_password: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class MailedTokenBody:
    """``POST /v1/email-verifications/confirm`` and ``/decline``."""

    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class ResetRequestBody:
    """``POST /v1/password-resets``."""

    email: str


@attrs.frozen(kw_only=True)
class ResetBody:
    """``POST /v1/password-resets/confirm``."""

    token: str = attrs.field(repr=False)
    password: str = attrs.field(repr=False)


class _NotText(TypeError):
    """A member is not a string."""


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _NotText
    return value


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(str, _text)
    # Optional means that the member may be missing, not that it may be null.
    converter.register_structure_hook(str | None, _text)
    return converter


_converter = _make_converter()


def structure(content: object, shape: type[Body], examine: Callable[[Mapping[str, str]], tuple[Fault, ...]]) -> Body:
    """Return a body in its shape.

    Raises `InvalidFields` with every fault of shape: members missing, unknown or of the wrong type; and with what `examine`
    has against the members whose shape is right, so that one answer names all faults of the body.
    """
    if not isinstance(content, dict):
        raise InvalidFields((Fault(field=None, code="wrong_type", detail="The body must be a JSON object."),))
    try:
        return _converter.structure(content, shape)
    except ClassValidationError as error:
        names = {field.name for field in attrs.fields(shape)}  # type: ignore[arg-type]
        sound = {name: value for name, value in content.items() if name in names and isinstance(value, str)}
        raise InvalidFields((*_shape_faults(error), *examine(sound))) from None


def _shape_faults(error: ClassValidationError) -> list[Fault]:
    noted, others = error.group_exceptions()
    faults = [_noted_fault(each, note) for each, note in noted]
    for other in others:
        if not isinstance(other, ForbiddenExtraKeysError):  # pragma: no cover (cattrs raises nothing else here)
            raise other
        faults += [Fault(field=name, code="unknown_field", detail="There is no such member.") for name in other.extra_fields]
    return sorted(faults, key=lambda fault: fault.field or "")


def _noted_fault(error: Exception, note: AttributeValidationNote) -> Fault:
    if isinstance(error, KeyError):
        return Fault(field=note.name, code="required", detail="This member is required.")
    return Fault(field=note.name, code="wrong_type", detail="This member must be a string.")


def render_user(user: User, *, with_pending: bool) -> bytes:
    """Return a User as JSON, with the address that is pending where there is mail.

    The same user has the same bytes, so they can be tagged.
    """
    return orjson.dumps(_user(user, with_pending=with_pending))


def render_activity(activity: Sequence[Activity]) -> bytes:
    """Return what happened to an account lately as JSON."""
    return orjson.dumps(
        {
            "activity": [
                {
                    "event": each.kind.value,
                    "at": _time(each.at),
                    "ip": each.client.ip,
                    "user_agent": each.client.user_agent,
                    "count": each.count,
                }
                for each in activity
            ]
        }
    )


def render_session(session: Session, rules: SessionRules, *, current: SessionId) -> bytes:
    """Return a Session as JSON."""
    return orjson.dumps(_session(session, rules, current))


def render_sessions(listed: SessionList, rules: SessionRules) -> bytes:
    """Return the list of a user's sessions as JSON."""
    return orjson.dumps({"sessions": [_session(session, rules, listed.current) for session in listed.sessions]})


def render_log_in(logged_in: LoggedIn, rules: SessionRules, *, with_pending: bool) -> bytes:
    """Return the answer to a log-in as JSON, in the terms of RFC 6749, section 5.1."""
    session = logged_in.session
    return orjson.dumps(
        {
            "access_token": logged_in.token.reveal(),
            "token_type": "Bearer",
            "expires_in": int((session.expires_at(rules) - session.last_used_at).total_seconds()),
            "session": _session(session, rules, session.id),
            "user": _user(logged_in.user, with_pending=with_pending),
        }
    )


def render_introspection(principal: Principal | None, rules: SessionRules) -> bytes:
    """Return what a token is as JSON: the members of RFC 7662, section 2.2, and claims that OpenID Connect has names for.

    A token is issued when the password is proved, so it was issued (`iat`) at `auth_time`. `exp` moves with each use.
    """
    if principal is None:
        return b'{"active":false}'
    user, session = principal.user, principal.session
    proved = int(session.authenticated_at.timestamp())
    return orjson.dumps(
        {
            "active": True,
            "token_type": "Bearer",
            "sub": str(user.id),
            "sid": str(session.id),
            "username": user.email.value,
            "iat": proved,
            "exp": int(session.expires_at(rules).timestamp()),
            "auth_time": proved,
            "name": user.name.value,
            "email": user.email.value,
            "email_verified": user.email_verified,
        }
    )


def _user(user: User, *, with_pending: bool) -> dict[str, Any]:
    shown = {
        "id": str(user.id),
        "name": user.name.value,
        "email": user.email.value,
        "email_verified": user.email_verified,
        "created_at": _time(user.created_at),
        "updated_at": _time(user.updated_at),
    }
    if with_pending:
        shown["pending_email"] = None if user.pending_email is None else user.pending_email.value
    return shown


def _session(session: Session, rules: SessionRules, current: SessionId) -> dict[str, Any]:
    return {
        "id": str(session.id),
        "created_at": _time(session.created_at),
        "last_used_at": _time(session.last_used_at),
        "authenticated_at": _time(session.authenticated_at),
        "expires_at": _time(session.expires_at(rules)),
        "user_agent": session.client.user_agent,
        "ip": session.client.ip,
        "current": session.id == current,
    }


def _time(moment: datetime) -> str:
    """Write a moment as RFC 3339 does, to the millisecond, in UTC with Z."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
