"""Which pages there are."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final

from aiohttp import hdrs, web

from pickguard.entrypoints.http.keys import PROBLEM_PAGE, REQUEST_ID
from pickguard.entrypoints.pages import mailed, profile, signing_in
from pickguard.entrypoints.pages.origin import is_from_own_page
from pickguard.entrypoints.pages.problems import cross_site_page, problem_page
from pickguard.entrypoints.pages.rendering import PAGES, set_up
from pickguard.entrypoints.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.Response]]
Expect = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

CHANGE_PASSWORD: Final = "/.well-known/change-password"  # noqa: S105 (a path, not a password)


async def show_style(request: web.Request) -> web.Response:
    """``GET /account/style.css``."""
    return _static(request.app[PAGES].style, "text/css")


async def show_script(request: web.Request) -> web.Response:
    """``GET /account/script.js``."""
    return _static(request.app[PAGES].script, "text/javascript")


async def lead_to_password(request: web.Request) -> web.Response:
    """``GET /.well-known/change-password``: where password managers look for the page (W3C, A Well-Known URL for that)."""
    return web.Response(status=303, headers={hdrs.LOCATION: request.app[PAGES].path("password")})


PAGE_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    (hdrs.METH_GET, "/account", profile.show_profile),
    (hdrs.METH_POST, "/account", profile.change_name),
    (hdrs.METH_GET, "/account/sign-up", signing_in.show_sign_up),
    (hdrs.METH_POST, "/account/sign-up", signing_in.sign_up),
    (hdrs.METH_GET, "/account/sign-in", signing_in.show_sign_in),
    (hdrs.METH_POST, "/account/sign-in", signing_in.sign_in),
    (hdrs.METH_POST, "/account/sign-out", signing_in.sign_out),
    (hdrs.METH_GET, "/account/password", profile.show_password),
    (hdrs.METH_POST, "/account/password", profile.change_password),
    (hdrs.METH_GET, "/account/address", profile.show_address),
    (hdrs.METH_POST, "/account/address", profile.change_address),
    (hdrs.METH_GET, "/account/sessions", profile.show_sessions),
    (hdrs.METH_POST, "/account/sessions/end", profile.end_session),
    (hdrs.METH_POST, "/account/sessions/end-others", profile.end_other_sessions),
    (hdrs.METH_GET, "/account/activity", profile.show_activity),
    (hdrs.METH_GET, "/account/export", profile.show_export),
    (hdrs.METH_POST, "/account/export", profile.export),
    (hdrs.METH_GET, "/account/delete", profile.show_delete),
    (hdrs.METH_POST, "/account/delete", profile.delete),
    (hdrs.METH_GET, "/account/style.css", show_style),
    (hdrs.METH_GET, "/account/script.js", show_script),
    (hdrs.METH_GET, CHANGE_PASSWORD, lead_to_password),
)
MAIL_PAGE_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    (hdrs.METH_POST, "/account/verification", profile.send_verification),
    (hdrs.METH_GET, "/account/verify", mailed.show_verify),
    (hdrs.METH_POST, "/account/verify", mailed.verify),
    (hdrs.METH_GET, "/account/decline", mailed.show_decline),
    (hdrs.METH_POST, "/account/decline", mailed.decline),
    (hdrs.METH_GET, "/account/forgot", mailed.show_forgot),
    (hdrs.METH_POST, "/account/forgot", mailed.forgot),
    (hdrs.METH_GET, "/account/reset", mailed.show_reset),
    (hdrs.METH_POST, "/account/reset", mailed.reset),
)
"""What there is only where there is mail."""


def add_pages(app: web.Application, settings: Settings, *, expect: Expect) -> None:
    """Add the pages to an application. Raises `PagesError` for templates and texts of one's own that cannot be used."""
    set_up(app, settings)
    app[PROBLEM_PAGE] = problem_page
    for method, path, handler in (*PAGE_ROUTES, *(MAIL_PAGE_ROUTES if settings.mail else ())):
        if method == hdrs.METH_GET:
            app.router.add_get(path, handler, expect_handler=expect)
        else:
            app.router.add_route(method, path, _from_own_page(handler), expect_handler=expect)


def _from_own_page(handler: Handler) -> Handler:
    """Return a handler that does nothing for pages of other sites. Every form goes through here, whoever wrote its handler."""

    @wraps(handler)
    async def guarded(request: web.Request) -> web.Response:
        if not is_from_own_page(request):
            return cross_site_page(request, request[REQUEST_ID])
        return await handler(request)

    return guarded


def _static(content: bytes, kind: str) -> web.Response:
    headers = {"Cross-Origin-Resource-Policy": "same-origin"}
    return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)
