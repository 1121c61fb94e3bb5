"""Which pages of other origins may use the API: those that are configured (CORS, Fetch standard, section 3.2; ASVS 3.4.2).

A library would have to know the connection's own answers and the shortest way as well, which are not the application's, and
aiohttp's own (aiohttp-cors) has a route for each OPTIONS, which would answer everybody. So these few lines are written here.
"""

from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict, MultiMapping

ALLOWED_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-ID"
"""What a script may send beside what every script may."""
EXPOSED_HEADERS: Final = "ETag, Location, Retry-After, WWW-Authenticate, X-Request-ID"
"""What a script may read beside what every script may."""
PREFLIGHT_SECONDS: Final = 600
"""How long a browser may remember what it was allowed; browsers have limits of their own, from 10 minutes on."""


class CrossOrigin:
    """Answers browsers that ask for a page of another origin.

    Credentials of the browser's own (cookies, TLS certificates) are never allowed: a script sends a token that it has.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    @property
    def is_configured(self) -> bool:
        """Whether there is any origin whose pages may use the API. If not, no answer says a word about it."""
        return bool(self._origins)

    def add_headers(self, asked: MultiMapping[str], headers: CIMultiDict[str]) -> None:
        """Add to an answer what its request's origin is to be told."""
        if not self._origins:
            return
        known = headers.get(hdrs.VARY)
        # Whoever asks, since what is remembered for one origin is of no use to another (Fetch standard, section 3.2.5).
        headers[hdrs.VARY] = hdrs.ORIGIN if known is None else f"{known}, {hdrs.ORIGIN}"
        origin = self._origin(asked)
        if origin is not None:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS

    def preflight(self, request: web.Request) -> web.Response | None:
        """Return the answer to a browser that asks before it sends a request for a page of an allowed origin, else None.

        It says which methods the resource has. What is not there has no such answer, but its ordinary one.
        """
        if request.method != hdrs.METH_OPTIONS or self._origin(request.headers) is None:
            return None
        found = request.match_info.http_exception
        if hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers or not isinstance(found, web.HTTPMethodNotAllowed):
            return None
        headers: Mapping[str, str] = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(sorted(found.allowed_methods)),
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ALLOWED_HEADERS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    def _origin(self, asked: MultiMapping[str]) -> str | None:
        given = asked.getall(hdrs.ORIGIN, ())
        return given[0] if len(given) == 1 and given[0] in self._origins else None
