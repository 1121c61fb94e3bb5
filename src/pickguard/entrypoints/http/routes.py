"""The resources of the API: each handler parses, calls one use case, and renders."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from uuid import UUID

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from pickguard.domain.model.errors import Fault, PreconditionFailed, RegistrationClosed, SessionNotFound
from pickguard.domain.model.identifiers import SessionId
from pickguard.domain.model.sessions import SessionRules
from pickguard.domain.model.users import User
from pickguard.domain.services.exports import DataExport
from pickguard.domain.services.recovery import Recovery
from pickguard.domain.services.registration import RegistrationMode
from pickguard.domain.services.verification import Verification
from pickguard.entrypoints.http.docs import DOCS_ROUTES
from pickguard.entrypoints.http.explanations import PROBLEM_ROUTES
from pickguard.entrypoints.http.exported import render_export
from pickguard.entrypoints.http.introspection import SERVICE_ROUTES
from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.problems import ProblemError
from pickguard.entrypoints.http.requests import (
    JSON_OR_MERGE_PATCH,
    UUID_TEXT,
    Condition,
    bearer_token,
    client_of,
    has_parameter,
    idempotency_key,
    read_json,
)
from pickguard.entrypoints.http.schemas import (
    ChangeBody,
    LogInBody,
    MailedTokenBody,
    ReauthenticationBody,
    RegistrationBody,
    ResetBody,
    ResetRequestBody,
    RestorationBody,
    render_activity,
    render_deletion,
    render_log_in,
    render_session,
    render_sessions,
    render_status,
    render_user,
    structure,
)
from pickguard.entrypoints.settings import Settings

ME = "/v1/users/me"
JSON_TYPE = "application/json"


async def register(request: web.Request) -> web.Response:
    """``POST /v1/users``."""
    services = request.app[SERVICES]
    if services.registration.mode is RegistrationMode.CLOSED:
        raise RegistrationClosed
    key = idempotency_key(request)

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        return services.fields.new_account(
            name=sound.get("name"), email=sound.get("email"), password=sound.get("password")
        ).faults

    body = structure(await read_json(request), RegistrationBody, examine)
    asked = {"name": body.name, "email": body.email, "password": body.password}
    if services.registration.mode is RegistrationMode.PRIVATE:
        await services.registration.register_privately(**asked, idempotency_key=key, client=client_of(request))
        return web.Response(status=202)
    user = await services.registration.register(**asked, idempotency_key=key, client=client_of(request))
    return _json(render_user(user, with_pending=services.has_mail), status=201, headers={hdrs.LOCATION: ME})


async def log_in(request: web.Request) -> web.Response:
    """``POST /v1/sessions``."""
    services = request.app[SERVICES]

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        return services.fields.log_in_faults(email=sound.get("email"), password=sound.get("password"))

    body = structure(await read_json(request), LogInBody, examine)
    logged_in = await services.authentication.log_in(email=body.email, password=body.password, client=client_of(request))
    return _json(render_log_in(logged_in, services.session_rules, with_pending=services.has_mail), status=201)


async def show_me(request: web.Request) -> web.Response:
    """``GET /v1/users/me``."""
    principal = await request.app[SERVICES].authentication.authenticate(bearer_token(request))
    return _user_response(request, principal.user)


async def change_me(request: web.Request) -> web.Response:
    """``PATCH /v1/users/me``."""
    services = request.app[SERVICES]
    token = bearer_token(request)
    principal = await services.authentication.authenticate(token)

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        # A current_password of the wrong type is at fault already; it need not be called missing as well.
        proof = sound.get("current_password", "" if "current_password" in content else None)
        return services.profiles.examine_changes(
            principal.user,
            name=sound.get("name"),
            email=sound.get("email"),
            password=sound.get("password"),
            current_password=proof,
        ).faults

    content = await read_json(request, JSON_OR_MERGE_PATCH)
    body = structure(content, ChangeBody, examine)
    user = await services.profiles.change(
        token,
        name=body.name,
        email=body.email,
        password=body.password,
        current_password=body.current_password,
        precondition=_precondition(request),
        client=client_of(request),
    )
    return _user_response(request, user)


async def delete_me(request: web.Request) -> web.Response:
    """``DELETE /v1/users/me``."""
    deletes_at = await request.app[SERVICES].profiles.delete(
        bearer_token(request), precondition=_precondition(request), client=client_of(request)
    )
    return web.Response(status=204) if deletes_at is None else _json(render_deletion(deletes_at), status=202)


async def restore_account(request: web.Request) -> web.Response:
    """``POST /v1/account-restorations``."""
    services = request.app[SERVICES]

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        return services.fields.log_in_faults(email=sound.get("email"), password=sound.get("password"))

    body = structure(await read_json(request), RestorationBody, examine)
    restored = await services.authentication.restore(email=body.email, password=body.password, client=client_of(request))
    return _json(render_log_in(restored, services.session_rules, with_pending=services.has_mail), status=201)


async def export_me(request: web.Request) -> web.Response:
    """``GET /v1/users/me/export``."""
    services = request.app[SERVICES]
    export = await services.exports.export(bearer_token(request), client=client_of(request))
    return export_response(export, services.session_rules)


def export_response(export: DataExport, rules: SessionRules) -> web.Response:
    """Return an export as a file to keep."""
    headers: dict[str, str] = {hdrs.CONTENT_DISPOSITION: 'attachment; filename="account.json"'}
    return _json(render_export(export, rules), headers=headers)


async def show_activity(request: web.Request) -> web.Response:
    """``GET /v1/users/me/activity``."""
    return _json(render_activity(await request.app[SERVICES].profiles.activity(bearer_token(request))))


async def list_sessions(request: web.Request) -> web.Response:
    """``GET /v1/sessions``."""
    services = request.app[SERVICES]
    listed = await services.sessions.list(bearer_token(request))
    return _json(render_sessions(listed, services.session_rules))


async def show_current_session(request: web.Request) -> web.Response:
    """``GET /v1/sessions/current``."""
    services = request.app[SERVICES]
    session = (await services.authentication.authenticate(bearer_token(request))).session
    return _json(render_session(session, services.session_rules, current=session.id))


async def reauthenticate(request: web.Request) -> web.Response:
    """``POST /v1/sessions/current/reauthentication``."""
    services = request.app[SERVICES]
    token = bearer_token(request)
    await services.authentication.authenticate(token)

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        return services.fields.log_in_faults(email=None, password=sound.get("password"))

    body = structure(await read_json(request), ReauthenticationBody, examine)
    logged_in = await services.authentication.reauthenticate(token, password=body.password, client=client_of(request))
    return _json(render_log_in(logged_in, services.session_rules, with_pending=services.has_mail))


async def log_out(request: web.Request) -> web.Response:
    """``DELETE /v1/sessions/current``."""
    await request.app[SERVICES].sessions.log_out(bearer_token(request), client=client_of(request))
    return web.Response(status=204)


async def end_session(request: web.Request) -> web.Response:
    """``DELETE /v1/sessions/{id}``."""
    services = request.app[SERVICES]
    token = bearer_token(request)
    text = request.match_info["id"]
    if not UUID_TEXT.fullmatch(text):
        await services.authentication.authenticate(token)
        raise SessionNotFound
    await services.sessions.end(token, SessionId(UUID(text)), client=client_of(request))
    return web.Response(status=204)


async def end_sessions(request: web.Request) -> web.Response:
    """``DELETE /v1/sessions``."""
    services = request.app[SERVICES]
    token = bearer_token(request)
    try:
        keep_current = has_parameter(request, "except", "current")
    except ProblemError:
        await services.authentication.authenticate(token)  # who may not ask at all is told that first
        raise
    await services.sessions.end_all(token, keep_current=keep_current, client=client_of(request))
    return web.Response(status=204)


async def send_verification(request: web.Request) -> web.Response:
    """``POST /v1/email-verifications``."""
    await _verification(request).send(bearer_token(request), client=client_of(request))
    return web.Response(status=202)


async def confirm_verification(request: web.Request) -> web.Response:
    """``POST /v1/email-verifications/confirm``."""
    body = structure(await read_json(request), MailedTokenBody, _nothing_more)
    await _verification(request).confirm(body.token, client=client_of(request))
    return web.Response(status=204)


async def decline_verification(request: web.Request) -> web.Response:
    """``POST /v1/email-verifications/decline``."""
    body = structure(await read_json(request), MailedTokenBody, _nothing_more)
    await _verification(request).decline(body.token, client=client_of(request))
    return web.Response(status=204)


async def request_reset(request: web.Request) -> web.Response:
    """``POST /v1/password-resets``."""
    body = structure(await read_json(request), ResetRequestBody, _nothing_more)
    await _recovery(request).request(email=body.email, client=client_of(request))
    return web.Response(status=202)


async def confirm_reset(request: web.Request) -> web.Response:
    """``POST /v1/password-resets/confirm``."""
    services = request.app[SERVICES]

    def examine(sound: Mapping[str, str]) -> tuple[Fault, ...]:
        return services.fields.new_account(name=None, email=None, password=sound.get("password")).faults

    body = structure(await read_json(request), ResetBody, examine)
    await _recovery(request).reset(body.token, password=body.password, client=client_of(request))
    return web.Response(status=204)


async def livez(_: web.Request) -> web.Response:
    """``GET /livez``: the process answers."""
    return _json(render_status())


async def readyz(request: web.Request) -> web.Response:
    """``GET /readyz``: the store takes writes."""
    await request.app[SERVICES].accounts.check_writable()
    return _json(render_status())


ROUTES = (
    (hdrs.METH_POST, "/v1/users", register),
    (hdrs.METH_GET, ME, show_me),
    (hdrs.METH_PATCH, ME, change_me),
    (hdrs.METH_DELETE, ME, delete_me),
    (hdrs.METH_GET, f"{ME}/activity", show_activity),
    (hdrs.METH_GET, f"{ME}/export", export_me),
    (hdrs.METH_POST, "/v1/account-restorations", restore_account),
    (hdrs.METH_POST, "/v1/sessions", log_in),
    (hdrs.METH_GET, "/v1/sessions", list_sessions),
    (hdrs.METH_DELETE, "/v1/sessions", end_sessions),
    (hdrs.METH_GET, "/v1/sessions/current", show_current_session),
    (hdrs.METH_DELETE, "/v1/sessions/current", log_out),
    (hdrs.METH_POST, "/v1/sessions/current/reauthentication", reauthenticate),
    (hdrs.METH_DELETE, "/v1/sessions/{id}", end_session),
    (hdrs.METH_GET, "/livez", livez),
    (hdrs.METH_GET, "/readyz", readyz),
)

MAIL_ROUTES = (
    (hdrs.METH_POST, "/v1/email-verifications", send_verification),
    (hdrs.METH_POST, "/v1/email-verifications/confirm", confirm_verification),
    (hdrs.METH_POST, "/v1/email-verifications/decline", decline_verification),
    (hdrs.METH_POST, "/v1/password-resets", request_reset),
    (hdrs.METH_POST, "/v1/password-resets/confirm", confirm_reset),
)
"""What there is only where there is mail."""


def routes(settings: Settings) -> tuple[tuple[str, str, Handler], ...]:
    """Return every route that a service with these settings has: method, path and handler.

    Each of them is described in `operations`.
    """
    mail = MAIL_ROUTES if settings.mail is not None else ()
    services = SERVICE_ROUTES if settings.service_credentials is not None else ()
    docs = DOCS_ROUTES if settings.docs == "on" else ()
    return (*ROUTES, *mail, *services, *PROBLEM_ROUTES, *docs)


def _verification(request: web.Request) -> Verification:
    found = request.app[SERVICES].verification
    if found is None:
        raise web.HTTPNotFound
    return found


def _recovery(request: web.Request) -> Recovery:
    found = request.app[SERVICES].recovery
    if found is None:
        raise web.HTTPNotFound
    return found


def _nothing_more(_: Mapping[str, str]) -> tuple[Fault, ...]:
    """Examine no member further than its type."""
    return ()


def _json(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers=headers, content_type=JSON_TYPE)


def entity_tag(body: bytes) -> str:
    """Return the strong entity tag of a representation."""
    return f'"{_tag(body)}"'


def _tag(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()


def _user_response(request: web.Request, user: User) -> web.Response:
    body = render_user(user, with_pending=request.app[SERVICES].has_mail)
    tag = _tag(body)
    headers = {"ETag": f'"{tag}"'}
    if request.method in {hdrs.METH_GET, hdrs.METH_HEAD}:
        required, known = Condition.of(request, hdrs.IF_MATCH), Condition.of(request, hdrs.IF_NONE_MATCH)
        if required is not None and not required.matches(tag, weakly=False):
            raise PreconditionFailed
        if known is not None and known.matches(tag, weakly=True):
            return web.Response(status=304, headers=headers)
    return _json(body, headers=headers)


def _precondition(request: web.Request) -> Callable[[User], bool] | None:
    """Return the request's condition on the user's state (RFC 9110, section 13.2.2), for a method that changes it."""
    must_match, must_not_match = Condition.of(request, hdrs.IF_MATCH), Condition.of(request, hdrs.IF_NONE_MATCH)
    if must_match is None and must_not_match is None:
        return None
    with_pending = request.app[SERVICES].has_mail

    def holds(user: User) -> bool:
        tag = _tag(render_user(user, with_pending=with_pending))
        if must_match is not None and not must_match.matches(tag, weakly=False):
            return False
        return must_not_match is None or not must_not_match.matches(tag, weakly=True)

    return holds
