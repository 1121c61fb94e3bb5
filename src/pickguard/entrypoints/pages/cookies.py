"""The cookie that holds the token of a session in a browser."""

from datetime import timedelta
from typing import Final

from aiohttp import web

from pickguard.domain.model.sessions import Session, SessionRules, Token

NAME: Final = "__Host-pickguard"
"""A browser takes a cookie of this name from no other host, and only with Secure and ``Path=/`` (RFC 6265bis, 4.1.3.2)."""


def session_cookie(request: web.Request) -> str | None:
    """Return the token that a browser holds, whatever it is worth."""
    return request.cookies.get(NAME)


def set_session(response: web.StreamResponse, token: Token, session: Session, rules: SessionRules) -> None:
    """Have the browser keep a token for as long as its session can last at most; that it ends earlier is seen by its use.

    ``Lax``, so that a link from a mail or another site leads into the account of whoever is signed in: what such a request
    gets to see stays with the user, and it changes nothing. ``Strict`` would show them a sign-in. What changes something is
    looked at for its origin, see `is_from_own_page`.
    """
    left = session.created_at + rules.lifetime - session.authenticated_at
    response.set_cookie(
        NAME,
        token.reveal(),
        max_age=max(left // timedelta(seconds=1), 1),
        path="/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )


def forget_session(response: web.StreamResponse) -> None:
    """Have the browser forget the token."""
    response.del_cookie(NAME, path="/", secure=True, httponly=True, samesite="Lax")
