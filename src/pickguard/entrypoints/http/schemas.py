"""The bodies of requests as attrs classes, and the objects of answers as JSON."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import attrs
import cattrs
import orjson
from cattrs.errors import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError

from pickguard.domain.model.activity import Activity
from pickguard.domain.model.credentials import HashScheme
from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.idempotency import Registered
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.limits import Failures
from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.users import User
from pickguard.domain.services.authentication import LoggedIn
from pickguard.domain.services.exports import DataExport
from pickguard.domain.services.sessions import SessionList
from pickguard.entrypoints.http.problems import time_text

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
class RestorationBody:
    """``POST /v1/account-restorations``."""

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
    return orjson.dumps({"activity": [_activity(each) for each in activity]})


def render_deletion(deletes_at: datetime) -> bytes:
    """Return when an account that can still be restored goes, as JSON."""
    return orjson.dumps({"deletes_at": time_text(deletes_at)})


EXPORT_FORMAT = 1
"""Grows where a member of an export changes its meaning or goes. New members do not count."""

WITHHELD: Mapping[str, str] = {
    "password.hash": "The hash of the password, with its salt: whoever has it can try passwords without end.",
    "sessions.token_digest": "The SHA-256 digest of each session's token: it is of use to the service only.",
    "mailed_tokens.digest": "The SHA-256 digest of each mailed token: it is of use to the service only.",
    "registration.digests": (
        "A digest of the Idempotency-Key of the registration, and a hash of what was asked, the password included."
    ),
    "limits.sources": "Digests of the addresses that wrong passwords came from, where the address itself is not kept.",
    "claim": "That the e-mail address is this account's: a digest of the address, the user's id, and a time.",
    "versions": "How often the account was written, and random ids of the last 8 writes.",
}
"""What is held about a user and is not in an export, and why."""


def render_export(export: DataExport, rules: SessionRules) -> bytes:
    """Return all that is held about a user as JSON, indented for people: what is left out is named in ``withheld``.

    The same data has the same bytes.
    """
    account = export.account
    user, credential, scheme = account.user, account.credential, HashScheme.of(account.credential.password_hash)
    sessions = sorted(account.sessions, key=lambda session: (session.created_at, session.id), reverse=True)
    answer = export.receipt.answer if export.receipt else None
    content = {
        "format": EXPORT_FORMAT,
        "exported_at": time_text(export.at),
        "user": {
            **_user(user, with_pending=True),
            "disabled": user.disabled,
            "deletes_at": None if user.deletes_at is None else time_text(user.deletes_at),
        },
        "password": {
            "set_at": time_text(credential.changed_at),
            "number": credential.epoch,
            "hashed_with": {"algorithm": scheme.algorithm, "parameters": dict(scheme.parameters)},
        },
        "sessions": [_session(each, rules, export.current) for each in sessions],
        "activity": [_activity(each) for each in account.activity],
        "mailed_tokens": [
            {"purpose": each.kind.value, "expires_at": time_text(each.expires_at)}
            for each in sorted(account.challenges, key=lambda challenge: challenge.kind.value)
        ],
        "registration": {
            "named_itself": account.made_by is not None,
            "remembered": export.receipt is not None,
            "registered_at": time_text(answer.at) if isinstance(answer, Registered) else None,
        },
        "limits": {
            "wrong_passwords": {
                **_failures(export.tries.run),
                "from_sources": [
                    {**_failures(each.run), "recent": [time_text(moment) for moment in each.recent.moments]}
                    for each in sorted(export.tries.sources, key=lambda source: source.recent.moments)
                ],
            },
            "mails": [time_text(moment) for moment in export.mails],
            "mails_that_reset_nothing": [time_text(moment) for moment in export.other_mails],
            "exports": [time_text(moment) for moment in export.exports],
        },
        "withheld": dict(WITHHELD),
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _failures(run: Failures) -> dict[str, Any]:
    """Return wrong passwords in a row, and the last of them."""
    return {
        "in_a_row": run.count,
        "last_at": None if run.last_at is None else time_text(run.last_at),
        "last_ip": run.last_source,
    }


def _activity(entry: Activity) -> dict[str, Any]:
    return {
        "event": entry.kind.value,
        "at": time_text(entry.at),
        "ip": entry.client.ip,
        "user_agent": entry.client.user_agent,
        "count": entry.count,
    }


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


def _user(user: User, *, with_pending: bool) -> dict[str, Any]:
    shown = {
        "id": str(user.id),
        "name": user.name.value,
        "email": user.email.value,
        "email_verified": user.email_verified,
        "created_at": time_text(user.created_at),
        "updated_at": time_text(user.updated_at),
    }
    if with_pending:
        shown["pending_email"] = None if user.pending_email is None else user.pending_email.value
    return shown


def _session(session: Session, rules: SessionRules, current: SessionId) -> dict[str, Any]:
    return {
        "id": str(session.id),
        "created_at": time_text(session.created_at),
        "last_used_at": time_text(session.last_used_at),
        "authenticated_at": time_text(session.authenticated_at),
        "expires_at": time_text(session.expires_at(rules)),
        "user_agent": session.client.user_agent,
        "ip": session.client.ip,
        "current": session.id == current,
    }
