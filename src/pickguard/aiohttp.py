"""Middleware and decorators that authenticate requests in an aiohttp application.

```python
app = web.Application(middlewares=[authentication(authenticator)])


async def greet(request: web.Request) -> web.Response:
    return web.Response(text=f"Hello, {request[PRINCIPAL].name}")
```

Every route needs a token, unless its handler is marked `public` or `login_optional`. With ``protect_all=False`` it is the other
way round: only handlers that are marked `login_required` or `login_optional` look at a token at all.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from pickguard.guard import DEFAULT_REALM, Authenticator, Guard, Principal, PrincipalSession, Refusal, Refused
from pickguard.guard.in_process import InProcess
from pickguard.guard.over_http import OverHttp

__all__ = [
    "PRINCIPAL",
    "Authenticator",
    "InProcess",
    "OverHttp",
    "Principal",
    "PrincipalSession",
    "authentication",
    "login_optional",
    "login_required",
    "public",
]

PRINCIPAL: Final = web.RequestKey("pickguard_principal", Principal)
"""Who makes the request: ``request[PRINCIPAL]``; with `login_optional`, ``request.get(PRINCIPAL)``, None without a token."""

_GUARD: Final = web.RequestKey("pickguard_guard", Guard)
_ASKED: Final = web.RequestKey("pickguard_asked", Guard)
_MARK: Final = "_pickguard_mark"

Marked = TypeVar("Marked", bound=Callable[..., Any])


def authentication(authenticator: Authenticator, *, realm: str = DEFAULT_REALM, protect_all: bool = True) -> Middleware:
    """Return the middleware. What it refuses gets 401 with a challenge (RFC 6750), 400 or 503, as problem details.

    Put those that add headers for other origins (CORS) before it: a refusal passes through them, and a preflight request, which
    has no token, must not get here. Paths that are no route's get their 404 without a token.
    """
    guard = Guard(authenticator, realm=realm)

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_GUARD] = guard
        mark = _mark_of(request.match_info.handler, request.method)
        is_route = request.match_info.http_exception is None
        if protect_all and is_route and mark not in {"public", "optional"}:
            try:
                await _identify(request, required=True)
            except Refused as refused:
                return _respond(refused.refusal)
        return await handler(request)

    return authenticate


def _mark_of(handler: object, method: str) -> object:
    """Return how a handler is marked: of a class of views, what is said of it or else of its method that would be called.

    What is said of a class of views is not said of those that are made from it.
    """
    if not isinstance(handler, type):
        return getattr(handler, _MARK, None)
    return vars(handler).get(_MARK) or getattr(getattr(handler, method.lower(), None), _MARK, None)


def public(handler: Marked) -> Marked:
    """Mark a handler, a method of a view or a class of views for everybody: tokens are not looked at.

    The subclasses of a class are not marked by that.
    """
    setattr(handler, _MARK, "public")
    return handler


def login_required(handler: Callable[..., Awaitable[web.StreamResponse]]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Let a handler, or a method of a view, be called only for who has a token that opens something.

    It does not depend on how the middleware was set up, and fails with `RuntimeError` where there is none.
    """
    return _checked(handler, required=True)


def login_optional(handler: Callable[..., Awaitable[web.StreamResponse]]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Let a handler, or a method of a view, be called without a token as well. A token that opens nothing is refused."""
    checked = _checked(handler, required=False)
    setattr(checked, _MARK, "optional")
    return checked


def _checked(
    handler: Callable[..., Awaitable[web.StreamResponse]], *, required: bool
) -> Callable[..., Awaitable[web.StreamResponse]]:
    @functools.wraps(handler)
    async def checked(first: web.Request | web.View, *more: Any) -> web.StreamResponse:
        request = next((each for each in (first, *more) if isinstance(each, web.Request)), None)
        if request is None:
            request = first.request  # type: ignore[union-attr]  # a view has one
        try:
            await _identify(request, required=required)
        except Refused as refused:
            return _respond(refused.refusal)
        return await handler(first, *more)

    return checked


async def _identify(request: web.Request, *, required: bool) -> None:
    """Find out who makes a request, once for each, whatever asks for it."""
    guard = request.get(_GUARD)
    if guard is not None and request.get(_ASKED) is guard and PRINCIPAL in request:
        return
    if guard is None:
        raise RuntimeError("add authentication(…) to the middlewares of the application: nobody can say whose request this is")
    principal = await guard.identify(request.headers.getall(hdrs.AUTHORIZATION, []), required=required)
    request.pop(PRINCIPAL, None)  # what another guard, of an outer application, has found out
    if principal is not None:
        request[PRINCIPAL], request[_ASKED] = principal, guard


def _respond(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=refusal.body, headers=dict(refusal.all_headers))
