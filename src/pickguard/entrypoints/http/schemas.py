"""The bodies of requests as attrs classes, and the objects of answers as JSON."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, NotRequired, TypedDict, TypeVar

import attrs
import cattrs
import orjson
from cattrs.errors import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError

from pickguard.domain.model.activity import Activity, ActivityKind
from pickguard.domain.model.errors import Fault, InvalidFields
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.sessions import Session, SessionRules
from pickguard.domain.model.users import EMAIL_MAX_LENGTH, User
from pickguard.domain.services.authentication import LoggedIn, Principal
from pickguard.domain.services.sessions import SessionList
from pickguard.entrypoints.http.problems import time_text
from pickguard.entrypoints.http.shapes import (
    EMAIL,
    MAILED_TOKEN,
    NAME,
    NEW_PASSWORD,
    PASSWORD,
    SHAPE,
    TIME,
    UUID,
    described,
)

Body = TypeVar("Body")

LOG_IN_EMAIL: Final = described("The address of the account.", maxLength=EMAIL_MAX_LENGTH, example="ada@example.com")
RESET_EMAIL: Final = described(
    "The address of the account. Any text gets the same answer; mail goes only to an account's address, as it is kept.",
    example="ada@example.com",
)
CURRENT_PASSWORD: Final = {
    **PASSWORD,
    "description": "The present password, which is needed where email or password is among the members.",
}

_USER_ID: Final = "01a20465-bea2-7890-b8a2-323b036c17a3"
_TOKEN: Final = f"pg_{'A' * 64}112b7160"
_SESSION_ID: Final = "01a20465-bef6-7a56-903c-b26f4fa2fa4a"
_EARLIER: Final = "2026-11-22T17:55:06.530Z"
_NOW: Final = "2026-11-22T17:55:06.614Z"
_LATER: Final = "2026-12-06T17:55:06.614Z"

# The docstrings of the classes below, and what is said of their members, stand in the API's description.


@attrs.frozen(kw_only=True)
class RegistrationBody:
    """Who registers."""

    name: str = attrs.field(metadata={SHAPE: NAME})
    email: str = attrs.field(metadata={SHAPE: EMAIL})
    password: str = attrs.field(repr=False, metadata={SHAPE: NEW_PASSWORD})


@attrs.frozen(kw_only=True)
class LogInBody:
    """Who logs in. Only the types and the upper lengths are checked: what else cannot be right is not right (401)."""

    email: str = attrs.field(metadata={SHAPE: LOG_IN_EMAIL})
    password: str = attrs.field(repr=False, metadata={SHAPE: PASSWORD})


@attrs.frozen(kw_only=True)
class RestorationBody:
    """Whose account is restored. It is checked like a log-in."""

    email: str = attrs.field(metadata={SHAPE: LOG_IN_EMAIL})
    password: str = attrs.field(repr=False, metadata={SHAPE: PASSWORD})


@attrs.frozen(kw_only=True)
class ReauthenticationBody:
    """The password, once more."""

    password: str = attrs.field(repr=False, metadata={SHAPE: PASSWORD})


@attrs.frozen(kw_only=True)
class ChangeBody:
    """What is to change. A member that is left out stays as it is; null is no value of any of them."""

    name: str | None = attrs.field(default=None, metadata={SHAPE: NAME})
    email: str | None = attrs.field(default=None, metadata={SHAPE: EMAIL})
    password: str | None = attrs.field(default=None, repr=False, metadata={SHAPE: NEW_PASSWORD})
    current_password: str | None = attrs.field(default=None, repr=False, metadata={SHAPE: CURRENT_PASSWORD})


@attrs.frozen(kw_only=True)
class MailedTokenBody:
    """A token that was mailed."""

    token: str = attrs.field(repr=False, metadata={SHAPE: MAILED_TOKEN})


@attrs.frozen(kw_only=True)
class ResetRequestBody:
    """Whose password is to be reset."""

    email: str = attrs.field(metadata={SHAPE: RESET_EMAIL})


@attrs.frozen(kw_only=True)
class ResetBody:
    """A token that was mailed, and the new password."""

    token: str = attrs.field(repr=False, metadata={SHAPE: MAILED_TOKEN})
    password: str = attrs.field(repr=False, metadata={SHAPE: NEW_PASSWORD})


class ShownUser(TypedDict):
    """A user, as the user sees it."""

    id: Annotated[str, described("What the user is called for good (UUIDv7).", **UUID, example=_USER_ID)]
    name: Annotated[str, described("What the person wants to be called.", example="Ada Lovelace")]
    email: Annotated[str, described("The address, as it was given; its domain in Unicode.", example="ada@example.com")]
    email_verified: Annotated[
        bool, described("Whether the user has shown that mail to this address reaches them.", example=False)
    ]
    created_at: Annotated[str, described("When the user registered, in UTC.", **TIME, example=_EARLIER)]
    updated_at: Annotated[str, described("When anything of the user changed last, in UTC.", **TIME, example=_EARLIER)]
    pending_email: NotRequired[
        Annotated[
            str | None,
            described(
                "The address that takes the place of email as soon as it has confirmed that; null if there is none.",
                where=lambda settings: settings.mail is not None,
                examples=[None, "lovelace@example.com"],
            ),
        ]
    ]


class ShownWholeUser(TypedDict):
    """A user with all that is kept about them: for the user in an export, and for operators."""

    id: Annotated[str, described("What the user is called for good (UUIDv7).", **UUID, example=_USER_ID)]
    name: Annotated[str, described("What the person wants to be called.", example="Ada Lovelace")]
    email: Annotated[str, described("The address, as it was given; its domain in Unicode.", example="ada@example.com")]
    email_verified: Annotated[bool, described("Whether it was shown that mail to this address reaches them.", example=True)]
    pending_email: Annotated[
        str | None,
        described(
            "The address that is to take the place of email; null if there is none.", examples=[None, "lovelace@example.com"]
        ),
    ]
    disabled: Annotated[bool, described("Whether operators let nobody log in, whatever they know.", example=False)]
    deletes_at: Annotated[
        str | None,
        described(
            "When the account goes for good, if its user has deleted it, in UTC; else null.", **TIME, examples=[None, _LATER]
        ),
    ]
    created_at: Annotated[str, described("When the account was made, in UTC.", **TIME, example=_EARLIER)]
    updated_at: Annotated[str, described("When anything of the user changed last, in UTC.", **TIME, example=_EARLIER)]


class ShownAccountSession(TypedDict):
    """A session of an account. Its id opens nothing."""

    id: Annotated[str, described("What the session is called (UUIDv7); it opens nothing.", **UUID, example=_SESSION_ID)]
    created_at: Annotated[str, described("When the log-in was, in UTC.", **TIME, example=_NOW)]
    last_used_at: Annotated[str, described("When it was used last, in UTC; up to 60 seconds behind.", **TIME, example=_NOW)]
    authenticated_at: Annotated[str, described("When the password was proved last, in UTC.", **TIME, example=_NOW)]
    expires_at: Annotated[str, described("When it ends, unless it is used before, in UTC.", **TIME, example=_LATER)]
    user_agent: Annotated[
        str | None, described("What the program of the log-in calls itself.", maxLength=256, example="curl/8.14.1")
    ]
    ip: Annotated[str | None, described("The address that the log-in came from.", example="192.0.2.7")]


class ShownSession(ShownAccountSession):
    """A session: what a log-in opens, on one device. Its id is public and opens nothing."""

    current: Annotated[bool, described("Whether this request was made within this session.", example=True)]


class ShownSessions(TypedDict):
    """The live sessions of a user, newest first."""

    sessions: list[ShownSession]


class ShownLogIn(TypedDict):
    """What a log-in gives, in the terms of RFC 6749, section 5.1."""

    access_token: Annotated[
        str,
        described(
            "The token that opens the session. It is shown this once; keep it like a password.",
            pattern="^pg_[A-Za-z0-9_-]+$",
            example=_TOKEN,
        ),
    ]
    token_type: Annotated[Literal["Bearer"], described("How the token is sent: Authorization: Bearer TOKEN.")]
    expires_in: Annotated[
        int, described("In how many seconds the session ends, unless it is used before.", minimum=0, example=1_209_600)
    ]
    session: ShownSession
    user: ShownUser


class ShownEntry(TypedDict):
    """Something that happened to an account."""

    event: Annotated[str, described("What happened.", enum=[kind.value for kind in ActivityKind], example="logged_in")]
    at: Annotated[str, described("When, in UTC.", **TIME, example=_NOW)]
    ip: Annotated[str | None, described("From which address, if that is known.", example="192.0.2.7")]
    user_agent: Annotated[str | None, described("By which program, if that is known.", maxLength=256, example="curl/8.14.1")]
    count: Annotated[int, described("How many times, where it was the same thing.", minimum=1, example=1)]


class ShownActivity(TypedDict):
    """What happened to an account lately, newest first: at most 32 entries."""

    activity: list[ShownEntry]


class ShownDeletion(TypedDict):
    """That an account was deleted, and can still be restored."""

    deletes_at: Annotated[str, described("When it is gone for good, in UTC.", **TIME, example=_LATER)]


class ShownExplanation(TypedDict):
    """What a type of problem is."""

    type: Annotated[str, described("What problems of the type have as their type.", example="/problems/email-taken")]
    title: Annotated[str, described("What they have as their title.", example="The e-mail address has an account already")]
    status: Annotated[int, described("The status of their answers.", minimum=400, maximum=599, example=409)]
    explanation: Annotated[str, described("What it means, and what to do.", example="One address has at most one account.")]


class ShownExplanations(TypedDict):
    """All types of problems."""

    problems: list[ShownExplanation]


_SECONDS: Final = {"minimum": 0}


class ShownActiveToken(TypedDict):
    """A token that opens a session (RFC 7662, section 2.2)."""

    active: Annotated[bool, described("That the token opens something.", const=True)]
    token_type: Literal["Bearer"]
    sub: Annotated[str, described("The user's id, which stays the same for ever.", example=_USER_ID, **UUID)]
    sid: Annotated[str, described("The session's id.", example=_SESSION_ID, **UUID)]
    username: Annotated[str, described("The user's e-mail address.", example="ada@example.com")]
    iat: Annotated[int, described("When the token was issued, in seconds since 1970.", example=1767323045, **_SECONDS)]
    exp: Annotated[int, described("When it ends unless it is used before, likewise.", example=1768532645, **_SECONDS)]
    auth_time: Annotated[int, described("When the password was proved last, likewise.", example=1767323045, **_SECONDS)]
    name: Annotated[str, described("What the person wants to be called.", example="Ada Lovelace")]
    email: Annotated[str, described("The e-mail address, as in username.", example="ada@example.com")]
    email_verified: Annotated[bool, described("Whether it was shown to be the user's.", example=True)]


class ShownInactiveToken(TypedDict):
    """A token that opens nothing: unknown, expired, revoked or garbage, of which nothing more is said."""

    active: Annotated[bool, described("That the token opens nothing.", const=False)]


class ShownStatus(TypedDict):
    """That all is well."""

    status: Literal["ok"]


@attrs.frozen(kw_only=True)
class IntrospectionForm:
    """``POST /v1/introspection``. Other parameters are ignored."""

    token: str = attrs.field(repr=False, metadata={SHAPE: described("The token that is asked about.", example=_TOKEN)})
    token_type_hint: str | None = attrs.field(
        default=None, metadata={SHAPE: described("Ignored: there is one kind of token.", example="access_token")}
    )


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
    shown: ShownActivity = {"activity": [shown_entry(each) for each in activity]}
    return orjson.dumps(shown)


def render_deletion(deletes_at: datetime) -> bytes:
    """Return when an account that can still be restored goes, as JSON."""
    shown: ShownDeletion = {"deletes_at": time_text(deletes_at)}
    return orjson.dumps(shown)


def shown_entry(entry: Activity) -> ShownEntry:
    """Return an entry of the activity as it is shown."""
    return {
        "event": entry.kind.value,
        "at": time_text(entry.at),
        "ip": entry.client.ip,
        "user_agent": entry.client.user_agent,
        "count": entry.count,
    }


def render_session(session: Session, rules: SessionRules, *, current: SessionId) -> bytes:
    """Return a Session as JSON."""
    return orjson.dumps(shown_session(session, rules, current))


def render_sessions(listed: SessionList, rules: SessionRules) -> bytes:
    """Return the list of a user's sessions as JSON."""
    shown: ShownSessions = {"sessions": [shown_session(session, rules, listed.current) for session in listed.sessions]}
    return orjson.dumps(shown)


def render_log_in(logged_in: LoggedIn, rules: SessionRules, *, with_pending: bool) -> bytes:
    """Return the answer to a log-in as JSON, in the terms of RFC 6749, section 5.1."""
    session = logged_in.session
    shown: ShownLogIn = {
        "access_token": logged_in.token.reveal(),
        "token_type": "Bearer",
        "expires_in": int((session.expires_at(rules) - session.last_used_at).total_seconds()),
        "session": shown_session(session, rules, session.id),
        "user": _user(logged_in.user, with_pending=with_pending),
    }
    return orjson.dumps(shown)


def render_introspection(principal: Principal | None, rules: SessionRules) -> bytes:
    """Return what a token is as JSON: the members of RFC 7662, section 2.2, and claims that OpenID Connect has names for.

    A token is issued when the password is proved, so it was issued (`iat`) at `auth_time`. `exp` moves with each use.
    """
    if principal is None:
        nothing: ShownInactiveToken = {"active": False}
        return orjson.dumps(nothing)
    user, session = principal.user, principal.session
    proved = int(session.authenticated_at.timestamp())
    shown: ShownActiveToken = {
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
    return orjson.dumps(shown)


def render_status() -> bytes:
    """Return as JSON that all is well."""
    shown: ShownStatus = {"status": "ok"}
    return orjson.dumps(shown)


def _user(user: User, *, with_pending: bool) -> ShownUser:
    shown: ShownUser = {
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


def shown_whole_user(user: User) -> ShownWholeUser:
    """Return a user with all that is kept about them."""
    return {
        "id": str(user.id),
        "name": user.name.value,
        "email": user.email.value,
        "email_verified": user.email_verified,
        "pending_email": None if user.pending_email is None else user.pending_email.value,
        "disabled": user.disabled,
        "deletes_at": None if user.deletes_at is None else time_text(user.deletes_at),
        "created_at": time_text(user.created_at),
        "updated_at": time_text(user.updated_at),
    }


def shown_session(session: Session, rules: SessionRules, current: SessionId) -> ShownSession:
    """Return a session as it is shown to its user."""
    return {**shown_account_session(session, rules), "current": session.id == current}


def shown_account_session(session: Session, rules: SessionRules) -> ShownAccountSession:
    """Return a session as it is shown to whoever is in none of the account's sessions."""
    return {
        "id": str(session.id),
        "created_at": time_text(session.created_at),
        "last_used_at": time_text(session.last_used_at),
        "authenticated_at": time_text(session.authenticated_at),
        "expires_at": time_text(session.expires_at(rules)),
        "user_agent": session.client.user_agent,
        "ip": session.client.ip,
    }
