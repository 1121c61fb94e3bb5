"""The aiohttp application for operators. Its answers have the form of all answers of the service."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Final, Protocol
from uuid import UUID

import attrs
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from pickguard.domain.model.errors import AccountNotFound, InvalidFields, SessionNotFound
from pickguard.domain.model.identifiers import SessionId, UserId
from pickguard.domain.model.users import User
from pickguard.domain.services.administration import Administration
from pickguard.entrypoints.admin.access import Gate, Operator, Right
from pickguard.entrypoints.admin.description import (
    DEFAULT_LIMIT,
    DESCRIPTION_PATH,
    LEAST_LIMIT,
    METRICS_PATH,
    MOST_LIMIT,
    USER,
    USERS,
    admin_json,
)
from pickguard.entrypoints.admin.rendering import render_account, render_page, render_sessions, render_user
from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.app import add_routes, plain_app, request_id
from pickguard.entrypoints.http.docs import describe
from pickguard.entrypoints.http.keys import DESCRIPTION, SERVICES
from pickguard.entrypoints.http.problems import ProblemError, problem
from pickguard.entrypoints.http.requests import UUID_TEXT
from pickguard.entrypoints.http.routes import JSON_TYPE
from pickguard.entrypoints.http.schemas import render_activity
from pickguard.entrypoints.settings import Settings
from pickguard.ports.directory import DirectoryEntry

logger = logging.getLogger("pickguard.admin")


class Exposed(Protocol):
    """All metrics, written down."""

    @property
    def content_type(self) -> str:
        """The value of Content-Type."""

    @property
    def body(self) -> bytes:
        """The text."""


@attrs.frozen(kw_only=True)
class Desk:
    """What operators are served with."""

    services: Services
    gate: Gate
    expose: Callable[[str], Exposed]
    """Writes the metrics down in the format that fits an Accept header. Called in a thread."""
    note: Callable[[bool], None]
    """Is told of each request whether it was let in."""


DESK = web.AppKey("desk", Desk)
OPERATOR = web.RequestKey("operator", Operator)


def create_admin_app(settings: Settings, desk: Desk) -> web.Application:
    """Return the application for operators. The settings are those `for_operators`."""
    app = plain_app(settings)
    app[DESK] = desk
    app[SERVICES] = desk.services
    app[DESCRIPTION] = admin_json(settings)
    app.middlewares.append(_let_in)
    add_routes(app, ADMIN_ROUTES)
    return app


@web.middleware
async def _let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve operators only, and write down what they did."""
    desk = request.app[DESK]
    desk.gate.check_host(request.headers.get(hdrs.HOST, ""))
    resource = request.match_info.route.resource
    route = None if resource is None else resource.canonical
    try:
        operator = desk.gate.admit(request.headers, Right.METRICS if route == METRICS_PATH else Right.EVERYTHING)
    except ProblemError:
        desk.note(False)
        desk.gate.note_refusal()
        raise
    desk.note(True)
    request[OPERATOR] = operator
    if route == METRICS_PATH:
        return await handler(request)
    outcome = "failure"
    try:
        response = await handler(request)
        outcome = "success"
    finally:
        _write_down(request, operator, route, outcome)
    return response


def _write_down(request: web.Request, operator: Operator, route: str | None, outcome: str) -> None:
    """Log what an operator did, to whom: those who may do everything are held to it (ASVS 5.0 16.3.1)."""
    subject = request.match_info.get("id", "")
    content = {
        "request_id": request_id(request),
        "operator": operator.name,
        "method": request.method[:20],
        "route": route or "an unknown path",
        "subject": subject.lower() if UUID_TEXT.fullmatch(subject) else None,
        "outcome": outcome,
    }
    logger.info("%s", json.dumps(content), extra={"fields": content})


async def show_metrics(request: web.Request) -> web.Response:
    """``GET /metrics``."""
    # Some hundred lines take some milliseconds to write, for which the requests of others need not wait.
    exposed = await asyncio.to_thread(request.app[DESK].expose, request.headers.get(hdrs.ACCEPT, ""))
    return web.Response(body=exposed.body, headers={hdrs.CONTENT_TYPE: exposed.content_type, hdrs.VARY: hdrs.ACCEPT})


async def list_users(request: web.Request) -> web.Response:
    """``GET /admin/v1/users``."""
    administration = _administration(request)
    email, search = _parameter(request, "email"), _parameter(request, "search")
    cursor, limit = _parameter(request, "cursor"), _limit(request)
    if email is not None:
        if search is not None or cursor is not None:
            raise _malformed("The query parameter email names one account: leave search and cursor out.")
        return _json(await _find(administration, email))
    wanted = None if search is None else _has_in_address(search)
    page = await administration.page(after=cursor, limit=limit, wanted=wanted)
    entries = [(entry, administration.live_sessions(entry.sessions)) for entry in page.entries]
    return _json(render_page(entries, following=page.next, unreadable=page.unreadable))


async def _find(administration: Administration, email: str) -> bytes:
    try:
        view = await administration.show((await administration.find(email)).id)
    except InvalidFields:
        raise _malformed("The query parameter email must be an e-mail address; search looks for a part of one.") from None
    except AccountNotFound:
        return render_page([], following=None, unreadable=())
    entry = DirectoryEntry(user=view.user, sessions=view.sessions)
    return render_page([(entry, view.sessions)], following=None, unreadable=())


def _has_in_address(text: str) -> Callable[[User], bool]:
    part = text.lower()
    return lambda user: part in user.email.key or part in user.email.value.lower()


async def show_user(request: web.Request) -> web.Response:
    """``GET /admin/v1/users/{id}``."""
    return _json(render_account(await _administration(request).show(_user_id(request))))


async def delete_user(request: web.Request) -> web.Response:
    """``DELETE /admin/v1/users/{id}``."""
    await _administration(request).delete(_user_id(request))
    return web.Response(status=204)


async def disable_user(request: web.Request) -> web.Response:
    """``POST /admin/v1/users/{id}/disable``."""
    return _json(render_user(await _administration(request).disable(_user_id(request))))


async def restore_user(request: web.Request) -> web.Response:
    """``POST /admin/v1/users/{id}/restore``: an account that its user has deleted stays."""
    return _json(render_user(await _administration(request).restore(_user_id(request))))


async def enable_user(request: web.Request) -> web.Response:
    """``POST /admin/v1/users/{id}/enable``."""
    return _json(render_user(await _administration(request).enable(_user_id(request))))


async def list_sessions(request: web.Request) -> web.Response:
    """``GET /admin/v1/users/{id}/sessions``."""
    view = await _administration(request).show(_user_id(request))
    return _json(render_sessions(view.sessions, request.app[SERVICES].session_rules))


async def end_sessions(request: web.Request) -> web.Response:
    """``DELETE /admin/v1/users/{id}/sessions``."""
    await _administration(request).revoke_sessions(_user_id(request))
    return web.Response(status=204)


async def end_session(request: web.Request) -> web.Response:
    """``DELETE /admin/v1/users/{id}/sessions/{session}``."""
    user_id, text = _user_id(request), request.match_info["session"]
    if not UUID_TEXT.fullmatch(text):
        await _administration(request).show(user_id)
        raise SessionNotFound
    await _administration(request).end_session(user_id, SessionId(UUID(text)))
    return web.Response(status=204)


async def show_activity(request: web.Request) -> web.Response:
    """``GET /admin/v1/users/{id}/activity``."""
    return _json(render_activity((await _administration(request).show(_user_id(request))).activity))


ADMIN_ROUTES: Final = (
    (hdrs.METH_GET, METRICS_PATH, show_metrics),
    (hdrs.METH_GET, DESCRIPTION_PATH, describe),
    (hdrs.METH_GET, USERS, list_users),
    (hdrs.METH_GET, USER, show_user),
    (hdrs.METH_DELETE, USER, delete_user),
    (hdrs.METH_POST, f"{USER}/disable", disable_user),
    (hdrs.METH_POST, f"{USER}/enable", enable_user),
    (hdrs.METH_POST, f"{USER}/restore", restore_user),
    (hdrs.METH_GET, f"{USER}/sessions", list_sessions),
    (hdrs.METH_DELETE, f"{USER}/sessions", end_sessions),
    (hdrs.METH_DELETE, f"{USER}/sessions/{{session}}", end_session),
    (hdrs.METH_GET, f"{USER}/activity", show_activity),
)


def _administration(request: web.Request) -> Administration:
    return request.app[SERVICES].administration


def _user_id(request: web.Request) -> UserId:
    text = request.match_info["id"]
    if not UUID_TEXT.fullmatch(text):
        raise AccountNotFound
    return UserId(UUID(text))


def _parameter(request: web.Request, name: str) -> str | None:
    """Return a query parameter, which may be there once, and then says something."""
    given = request.query.getall(name, [])
    if len(given) > 1 or given == [""]:
        raise _malformed(f"The query parameter {name} must be given once, and not be empty.")
    return given[0] if given else None


def _limit(request: web.Request) -> int:
    text = _parameter(request, "limit")
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_LIMIT)) and LEAST_LIMIT <= int(text) <= MOST_LIMIT):
        raise _malformed(f"The query parameter limit must be a whole number from {LEAST_LIMIT} to {MOST_LIMIT}.")
    return int(text)


def _malformed(detail: str) -> ProblemError:
    return ProblemError(problem("malformed-request", detail))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=JSON_TYPE)
