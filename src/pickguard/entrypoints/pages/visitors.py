"""Who looks at a page, and where they are led who are not signed in."""

import contextlib
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final

import attrs
from aiohttp import hdrs, web

from pickguard.domain.model.errors import InvalidToken, Unavailable
from pickguard.domain.model.sessions import Session
from pickguard.domain.model.users import User
from pickguard.domain.services.authentication import LoggedIn
from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.requests import client_of
from pickguard.entrypoints.pages.cookies import forget_session, session_cookie, set_session
from pickguard.entrypoints.pages.rendering import PAGES, grace_of, texts_of
from pickguard.entrypoints.pages.texts import fill

NEXT: Final = frozenset({"password", "address", "sessions", "activity", "export", "delete"})
"""The pages that a sign-in may lead to. It is told which by one of these words, so it leads to no place of somebody else's."""
FRESH: Final = web.RequestKey("fresh", LoggedIn)
"""A session under a new token that the browser has not got yet, for whatever answer it gets."""
SIGNED_IN: Final = "signed-in"
"""What the page after a sign-in is told, so that it can tell a browser that keeps no cookie from one that has none."""

KEPT: Final = "kept"
"""The same where somebody signed in to keep an account that they had deleted."""


@attrs.frozen(kw_only=True)
class Visitor:
    """Somebody who is signed in, and the token of their session."""

    token: str = attrs.field(repr=False)
    user: User
    session: Session


async def visitor_of(request: web.Request) -> Visitor:
    """Return who is signed in; `InvalidToken` where nobody is."""
    token = session_cookie(request)
    if token is None:
        raise InvalidToken
    principal = await request.app[SERVICES].authentication.authenticate(token)
    return Visitor(token=token, user=principal.user, session=principal.session)


def signed_in(
    show: Callable[[web.Request, Visitor], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler for those who are signed in. Others are led to the sign-in and, if they only looked, back from there.

    A session may end at any point, so that is looked for at each.
    """

    @wraps(show)
    async def handler(request: web.Request) -> web.Response:
        try:
            return await show(request, await visitor_of(request))
        except InvalidToken:
            return _to_sign_in(request)

    return handler


def redirect(request: web.Request, page: str = "", **query: str | None) -> web.Response:
    """Lead a browser to another page, which it is to get (RFC 9110, section 15.4.4), so that a reload sends nothing twice."""
    return web.Response(status=303, headers={hdrs.LOCATION: request.app[PAGES].path(page, **query)})


def begin_session(request: web.Request, response: web.Response, logged_in: LoggedIn) -> web.Response:
    """Have a browser keep the token of a new session, or the new token of one that has been proved afresh."""
    set_session(response, logged_in.token, logged_in.session, request.app[SERVICES].session_rules)
    return response


async def end_former_session(request: web.Request) -> None:
    """End the session that the browser had before, since nobody will hold its token any more (ASVS 5.0 7.2.4)."""
    token = session_cookie(request)
    if token is not None:
        with contextlib.suppress(InvalidToken, Unavailable):
            await request.app[SERVICES].sessions.log_out(token, client=client_of(request))


def notice_of(request: web.Request) -> str:
    """Return what was just done, in words, where the query says so; "" where it says nothing that there are words for."""
    return fill(vars(texts_of(request).done).get(request.query.get("done", ""), ""), grace=grace_of(request))


def next_of(name: str) -> str:
    """Return where a sign-in is to lead, if that is one of the pages that it may lead to, else ""."""
    return name if name in NEXT else ""


def _to_sign_in(request: web.Request) -> web.Response:
    done = request.query.get("done")
    had_cookie = session_cookie(request) is not None
    if had_cookie:
        done = "expired"
    elif done in {SIGNED_IN, KEPT}:
        done = "no-cookie"
    elif not notice_of(request):
        done = None
    page = request.path.rpartition("/account/")[2] if request.method in {hdrs.METH_GET, hdrs.METH_HEAD} else ""
    response = redirect(request, "sign-in", next=next_of(page), done=done)
    if had_cookie:
        forget_session(response)
    return response
