"""Whether a form was sent by a page of this very service (ASVS 5.0 3.5.1 and 3.5.3).

What decides is what browsers say and pages cannot change: `Sec-Fetch-Site`, and `Origin` for browsers that do not send it, as
before 2023, or send it only over TLS. The same is done by Go's `http.CrossOriginProtection` and told by OWASP's cheat sheet on
CSRF. It needs no token in forms, and holds for a sign-in as well, where there is no session yet that a token could belong to.
Unlike there, who sends neither header is refused: these pages are for browsers, and programs have the API.
"""

from urllib.parse import urlsplit

from aiohttp import hdrs, web

from pickguard.entrypoints.http.keys import SETTINGS

_OWN_SITES = frozenset({"same-origin", "none"})
"""``none`` is a request that no page caused, but its user: a form that is sent again by a reload."""


def is_from_own_page(request: web.Request) -> bool:
    """Tell whether a page of this service, or the user, caused a request. A page of the same site but another host did not."""
    site, origin = _only(request, "Sec-Fetch-Site"), _only(request, hdrs.ORIGIN)
    if site is not None:
        return site in _OWN_SITES
    return origin is not None and _is_own(request, origin)


def _is_own(request: web.Request, origin: str) -> bool:
    public = request.app[SETTINGS].public_url
    if public and origin == _origin_of(public):
        return True
    scheme, _, host = origin.partition("://")
    # Over plain HTTP, a proxy may have ended TLS. Over TLS, a page that anybody on the way can write is not this service's.
    schemes = {"https"} if request.secure or public.startswith("https:") else {"http", "https"}
    return scheme in schemes and host.lower() == request.headers.get(hdrs.HOST, "").lower()


def _origin_of(url: str) -> str:
    """Return the origin of a URL as a browser writes it (RFC 6454, section 6.1)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, {"http": 80, "https": 443}[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _only(request: web.Request, name: str) -> str | None:
    """Return a header; of one that is there twice, what nothing equals."""
    lines = request.headers.getall(name, ())
    return None if not lines else lines[0] if len(lines) == 1 else ""
