"""Pages in place of the one that was asked for."""

from http import HTTPStatus

from aiohttp import hdrs, web

from pickguard.entrypoints.http.problems import NOT_REPLICATED, UNKNOWN_OUTCOME, Problem
from pickguard.entrypoints.pages.rendering import render, texts_of
from pickguard.entrypoints.pages.visitors import FRESH, begin_session

_NAMES = {
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "not-found",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-large",
    HTTPStatus.SERVICE_UNAVAILABLE: "busy",
    HTTPStatus.INTERNAL_SERVER_ERROR: "failed",
}


def problem_page(request: web.Request, found: Problem, reference: str) -> web.Response:
    """Return the page that tells a person of a problem, with the same status and headers as the API's answer to it."""
    name = _NAMES.get(HTTPStatus(found.type.status), "malformed")
    if found.detail in {UNKNOWN_OUTCOME, NOT_REPLICATED}:
        name = "unknown"
    headers = {name: value for name, value in found.headers.items() if name != hdrs.ACCEPT}
    response = _page(request, name, found.type.status, reference, headers)
    if found.close:
        response.force_close()
    if FRESH in request:
        begin_session(request, response, request[FRESH])
    return response


def cross_site_page(request: web.Request, reference: str) -> web.Response:
    """Return the page for a form that a page of another site has sent."""
    return _page(request, "cross-site", HTTPStatus.FORBIDDEN, reference, {})


def _page(request: web.Request, name: str, status: int, reference: str, headers: dict[str, str]) -> web.Response:
    words = texts_of(request).problems
    return render(
        request,
        "problem.html",
        status=status,
        headers=headers,
        title=getattr(words, f"{name}-title"),
        text=getattr(words, name),
        reference=reference,
    )
