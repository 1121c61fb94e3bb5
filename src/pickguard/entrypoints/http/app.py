"""The aiohttp application."""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDictProxy

from pickguard.domain.model.errors import AccountsError, Unavailable
from pickguard.entrypoints.bootstrap import Services, open_services
from pickguard.entrypoints.http.answers import HEADERS, STRICT_TRANSPORT_SECURITY
from pickguard.entrypoints.http.cors import CrossOrigin
from pickguard.entrypoints.http.keys import (
    CLIENTS_SECONDS,
    CROSS_ORIGIN,
    DEADLINE,
    DESCRIPTION,
    MEASURED,
    PROBLEM_PAGE,
    REFUSALS,
    REQUEST_ID,
    SERVICES,
    SETTINGS,
    WATCHING,
)
from pickguard.entrypoints.http.openapi import openapi_json
from pickguard.entrypoints.http.problems import (
    UNKNOWN_OUTCOME,
    Problem,
    ProblemError,
    for_error,
    for_http_exception,
    problem,
    respond,
)
from pickguard.entrypoints.http.refusals import Refusals
from pickguard.entrypoints.http.requests import MAX_BODY_BYTES, UUID_TEXT, client_of, refuse_ambiguity
from pickguard.entrypoints.http.routes import routes
from pickguard.entrypoints.http.watching import Measured, Watching
from pickguard.entrypoints.request_context import CURRENT_REQUEST
from pickguard.entrypoints.settings import Settings, SettingsError

logger = logging.getLogger("pickguard.http")

_UUID4_MASK = ~(0xF << 76 | 0x3 << 62)
_UUID4_BITS = 0x4 << 76 | 0x2 << 62
UNKNOWN_PATH = "an unknown path"


def create_app(
    settings: Settings,
    *,
    services: Callable[[Settings], AbstractAsyncContextManager[Services]] = open_services,
    watching: Watching | None = None,
) -> web.Application:
    """Return the application for a store that other processes may share.

    `services` opens the use cases when the application starts and closes them when it stops; a test passes its own.
    """
    app = plain_app(settings, watching=watching)
    app[DESCRIPTION] = openapi_json(settings)

    async def open_and_close(app: web.Application) -> AsyncGenerator[None]:
        async with services(settings) as opened:
            app[SERVICES] = opened
            yield

    app.cleanup_ctx.append(open_and_close)
    add_routes(app, routes(settings))
    if not settings.no_pages:
        _add_pages(app, settings)
    return app


def plain_app(settings: Settings, *, watching: Watching | None = None) -> web.Application:
    """Return an application without routes, whose answers have the form and the headers of all answers of the service."""
    app = web.Application(middlewares=[_answer_in_form], client_max_size=MAX_BODY_BYTES)
    app[SETTINGS] = settings
    app[REFUSALS] = Refusals()
    app[CROSS_ORIGIN] = CrossOrigin(settings.cors_origins)
    app[WATCHING] = watching or Watching()
    app.on_response_prepare.append(_add_headers)
    return app


def add_routes(app: web.Application, routes: Iterable[tuple[str, str, Handler]]) -> None:
    """Add routes to an application."""
    for method, path, handler in routes:
        if method == hdrs.METH_GET:
            app.router.add_get(path, handler, expect_handler=_expect)
        else:
            app.router.add_route(method, path, handler, expect_handler=_expect)


def _add_pages(app: web.Application, settings: Settings) -> None:
    """Add the account pages. Raises `SettingsError` for templates and texts of one's own that cannot be used."""
    try:
        from pickguard.entrypoints.pages.routes import add_pages  # noqa: PLC0415 (who has no pages needs no templates in memory)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the package {error.name} is not installed: the account pages need pickguard[server]; --no-pages does without"
        ) from error

    add_pages(app, settings, expect=_expect)


@web.middleware
async def _answer_in_form(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id and a time limit, and every error the form of a problem."""
    began = time.perf_counter()
    watching = request.app[WATCHING]
    if watching.tracing is None:
        response = await _answer(request, handler)
    else:
        route = _route(request)
        with watching.tracing.request(request.method, route, request.headers, request_id(request)) as span:
            response = await _answer(request, handler)
            span.answered(response.status)
    seconds = time.perf_counter() - began
    if watching.answered is not None:  # who is told when the answer is sent, as of those that never come here
        request[MEASURED] = Measured(_route(request), seconds - request.get(CLIENTS_SECONDS, 0.0))
    if request.app[SETTINGS].access_log:
        _log_request(request, response, seconds)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    limit = asyncio.timeout(request.app[SETTINGS].request_timeout.total_seconds())
    request[DEADLINE] = limit
    CURRENT_REQUEST.set(request_id(request))  # for as long as the request's own task lives, or until its next one
    try:
        async with limit:
            refuse_ambiguity(request)
            return request.app[CROSS_ORIGIN].preflight(request) or await handler(request)
    except Exception as error:  # noqa: BLE001 (every answer has the form of a problem)
        asked = f"{request_id(request)} to {request.method} {_route(request) or UNKNOWN_PATH}"
        safe = request.method in {hdrs.METH_GET, hdrs.METH_HEAD}
        found = problem_of(error, request.app, asked=asked, safe=safe, timed_out=limit.expired())
    if PROBLEM_PAGE in request.app and is_page(request.path):
        return request.app[PROBLEM_PAGE](request, found, request_id(request))
    return respond(found, request_id(request))


def is_page(path: str) -> bool:
    """Tell whether a path is one of the account pages, whose errors are pages as well."""
    return path == "/account" or path.startswith("/account/")


def problem_of(error: Exception, app: web.Application, *, asked: str, safe: bool, timed_out: bool) -> Problem:
    """Return the problem that a failure is to a client, and log what is not the client's doing.

    `asked` is what to call the request. Its path may hold anything a client put there, a token even; the route says as much as
    is needed.
    """
    if isinstance(error, AccountsError):
        if isinstance(error, Unavailable):
            app[REFUSALS].note(str(error))
        return for_error(error)
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, web.HTTPException):
        return for_http_exception(error)
    if isinstance(error, TimeoutError) and timed_out:
        detail = "The store did not answer in time. Nothing was done." if safe else UNKNOWN_OUTCOME
        return problem("store-unavailable", detail, headers={hdrs.RETRY_AFTER: "1"})
    logger.error("request %s failed", asked, exc_info=error)
    return problem("internal-error", "The service failed to answer. The log has more under the request's id.")


async def _expect(request: web.Request) -> web.Response | None:
    """Let a body come that will be read; refuse other expectations (RFC 9110, section 10.1.1)."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        return respond(for_http_exception(web.HTTPExpectationFailed()), request_id(request))
    # A body that is announced as too large need not be sent at all.
    if request.version == HttpVersion11 and (request.content_length or 0) <= MAX_BODY_BYTES:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return None


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    headers["X-Request-ID"] = request_id(request)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if request.secure:
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT_SECURITY
    request.app[CROSS_ORIGIN].add_headers(request.headers, headers)
    headers.popall(hdrs.SERVER, None)


def request_id(request: web.Request) -> str:
    """Return the request's id: the client's, if it is a UUID, else a new one."""
    known = request.get(REQUEST_ID)
    if known is None:
        known = request[REQUEST_ID] = request_id_of(request.headers)
    return known


def request_id_of(headers: "CIMultiDictProxy[str]") -> str:
    """Return the id that a client has given its request, if it is a UUID, else a new one."""
    given = headers.getall("X-Request-ID", ())
    return given[0] if len(given) == 1 and UUID_TEXT.fullmatch(given[0]) else new_request_id()


def new_request_id() -> str:
    """Return a UUID of version 4 (RFC 9562, section 5.4) that nobody else has, and that need not be hard to guess."""
    # After a fork, Python seeds this generator anew.
    bits = random.getrandbits(128) & _UUID4_MASK | _UUID4_BITS
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _route(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _log_request(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    content = {
        "request_id": request_id(request),
        "method": request.method[:20],
        "route": _route(request) or UNKNOWN_PATH,
        "status": response.status,
        "ms": round(seconds * 1000, 1),
        "ip": client_of(request).ip,
    }
    logger.info("%s", json.dumps(content), extra={"fields": content})
