"""The API's description: for machines at ``/openapi.json``, for people at ``/docs``.

The page is Swagger UI, which is shipped with the package: nothing is loaded from anywhere else, and its Content-Security-Policy
allows neither that nor scripts and styles within the page.
"""

import gzip
import io
from functools import cache
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from pickguard.entrypoints.http.answers import OF_A_PAGE
from pickguard.entrypoints.http.keys import DESCRIPTION
from pickguard.entrypoints.http.requests import accepts_coding

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI has its icons as ``data:`` in its style sheet."""

_PAGE: Final = files(__package__) / "docs_page"
_SCRIPT, _STYLE, _TEXT = "text/javascript", "text/css", "text/plain"
FILES: Final = {
    "docs.js": _SCRIPT,
    "docs.css": _STYLE,
    "swagger-ui-bundle.js": _SCRIPT,
    "swagger-ui.css": _STYLE,
    "swagger-ui-bundle.js.LICENSE.txt": _TEXT,
    "swagger-ui-LICENSE.txt": _TEXT,
    "swagger-ui-NOTICE.txt": _TEXT,
}
"""What the page is made of, and the media type of each."""


async def describe(request: web.Request) -> web.Response:
    """``GET /openapi.json``."""
    return web.Response(body=request.app[DESCRIPTION], content_type="application/json")


async def show(_: web.Request) -> web.Response:
    """``GET /docs``."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, **OF_A_PAGE}
    return web.Response(body=_page(), content_type="text/html", charset="utf-8", headers=headers)


async def send_file(request: web.Request) -> web.Response:
    """``GET /docs/{file}``."""
    name = request.match_info["file"]
    if name not in FILES:
        raise web.HTTPNotFound
    headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT_ENCODING}
    if accepts_coding(request, "gzip"):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        content = _packed(name)
    else:
        content = _plain(name)
    # As a stream: a client that does not read makes nobody hold the whole of it for each of its connections.
    return web.Response(body=io.BytesIO(content), content_type=FILES[name], charset="utf-8", headers=headers)


@cache
def _page() -> bytes:
    return (_PAGE / "index.html").read_bytes()


@cache
def _plain(name: str) -> bytes:
    return gzip.decompress(_packed(name))


@cache
def _packed(name: str) -> bytes:
    kept = _PAGE / f"{name}.gz"
    return kept.read_bytes() if kept.is_file() else gzip.compress((_PAGE / name).read_bytes(), mtime=0)


DOCS_ROUTES: Final = (
    (hdrs.METH_GET, "/openapi.json", describe),
    (hdrs.METH_GET, "/docs", show),
    (hdrs.METH_GET, "/docs/{file}", send_file),
)
"""What there is only where the API is described."""
