"""What guards somebody else's application: whose request is this? `pickguard.aiohttp` and `pickguard.asgi` stand on it.

An `Authenticator` says whose a token is: `InProcess` by the library itself, on the store of the service, and `OverHttp` by
asking the service. Nothing is remembered between requests: a token that was revoked is refused by the next one.
"""

import json
import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, Protocol

import attrs

from pickguard.domain.model.errors import InvalidToken, Unavailable

__all__ = ["Anonymous", "Authenticator", "InvalidToken", "Principal", "PrincipalSession", "Unavailable"]

logger = logging.getLogger("pickguard.guard")

DEFAULT_REALM: Final = "pickguard"
LOGGED_EVERY_SECONDS: Final = 10.0
# The token68 of RFC 9110, section 11.2, as RFC 6750, section 2.1, has it. No token of the service is nearly as long.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,1024}=*", re.ASCII)


@attrs.frozen(kw_only=True)
class PrincipalSession:
    """The session within which a request is made. Its `id` is public and opens nothing."""

    id: str
    authenticated_at: datetime
    """When the password was proved last, in UTC."""
    expires_at: datetime
    """When the session ends unless it is used before, in UTC."""


@attrs.frozen(kw_only=True)
class Principal:
    """Who makes a request.

    `user_id` stays the same for ever and belongs to nobody else: it is what to keep beside one's own data. Name and address
    can change, and an address can come to belong to another user.
    """

    user_id: str
    name: str
    email: str
    email_verified: bool
    session: PrincipalSession | None = None
    """None where it was not asked for: over HTTP it takes a client with a service's secret."""

    @property
    def is_authenticated(self) -> bool:
        """True. With the next two, this is a user to Starlette."""
        return True

    @property
    def display_name(self) -> str:
        """The name."""
        return self.name

    @property
    def identity(self) -> str:
        """The user's id."""
        return self.user_id


@attrs.frozen
class Anonymous:
    """Who makes a request without a token, where that is allowed: what Starlette has as an unauthenticated user."""

    @property
    def is_authenticated(self) -> bool:
        """False."""
        return False

    @property
    def display_name(self) -> str:
        """Nothing."""
        return ""

    @property
    def identity(self) -> str:
        """Nothing."""
        return ""


class Authenticator(Protocol):
    """Says whose a token is."""

    async def authenticate(self, token: str) -> Principal:
        """Return whom a bearer token stands for.

        Raises `InvalidToken` where it opens nothing, and `Unavailable` where that cannot be known now.
        """


@attrs.frozen(kw_only=True)
class Refusal:
    """An answer that refuses a request: problem details (RFC 9457) of the type that says no more than the status."""

    status: int
    detail: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The JSON of it."""
        title = HTTPStatus(self.status).phrase
        return json.dumps({"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}).encode()

    @property
    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """Its headers, with those that every refusal has."""
        return (("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"), *self.headers)


class Refused(Exception):
    """The request is answered with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Guard:
    """Finds out who makes a request, by its Authorization headers."""

    def __init__(
        self, authenticator: Authenticator, *, realm: str = DEFAULT_REALM, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raise `ValueError` for a realm that cannot stand in quotes (RFC 9110, section 5.6.4)."""
        if not re.fullmatch(r"[ !#-\[\]-~]*", realm):
            raise ValueError("a realm is ASCII without quotes and backslashes")
        self._authenticator = authenticator
        self._challenge = f'Bearer realm="{realm}"'
        self._clock = clock
        self._log_again_at = 0.0

    async def identify(self, lines: Sequence[str], *, required: bool) -> Principal | None:
        """Return whom a request is from; None where it has no token and needs none.

        `lines` are the values of all its Authorization headers. Raises `Refused`: 400 for several of them, 401 for a token
        that opens nothing, whether or not one is needed, and 503 where it cannot be known whose it is. Nobody is let in by a
        failure.
        """
        if len(lines) > 1:
            raise Refused(Refusal(status=400, detail="There is more than one Authorization header."))
        scheme, _, token = (lines[0] if lines else "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            if required:
                raise Refused(self.missing())
            return None
        try:
            if not _TOKEN.fullmatch(token):
                raise InvalidToken  # noqa: TRY301 (refused as any other)
            return await self._authenticator.authenticate(token)
        except InvalidToken:
            challenge = f'{self._challenge}, error="invalid_token"'
            raise Refused(self._unauthorized("The bearer token opens nothing. Log in for a new one.", challenge)) from None
        except Unavailable as error:
            self._log(error)
            seconds = max(1, math.ceil(error.retry_after.total_seconds()))
            detail = "It cannot be known now whose request this is. Try again after the time in Retry-After."
            raise Refused(Refusal(status=503, detail=detail, headers=(("Retry-After", str(seconds)),))) from None

    def missing(self) -> Refusal:
        """Return the answer to a request that needs a token and has none."""
        return self._unauthorized("Send an access token in the header Authorization: Bearer TOKEN.", self._challenge)

    def _unauthorized(self, detail: str, challenge: str) -> Refusal:
        return Refusal(status=401, detail=detail, headers=(("WWW-Authenticate", challenge),))

    def _log(self, error: Unavailable) -> None:
        """Say why, once in a while: who is not reached is not reached by all."""
        now = self._clock()
        if now >= self._log_again_at:
            self._log_again_at = now + LOGGED_EVERY_SECONDS
            logger.warning("requests are refused, since nobody can say whose they are: %s", error)


UNREACHED_RETRY: Final = timedelta(seconds=1)
"""When to try again where nobody said."""
