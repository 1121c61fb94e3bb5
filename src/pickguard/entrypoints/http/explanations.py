"""The pages that explain problem types, at the paths that problem details name as their ``type``."""

import base64
import hashlib
from html import escape

import orjson
from aiohttp import hdrs, web

from pickguard.entrypoints.http.problems import TYPES, ProblemType

_STYLE = (
    ":root{color-scheme:light dark;font:1.0625rem/1.6 system-ui,sans-serif}"
    "body{max-width:38rem;margin:4rem auto;padding:0 1.25rem}"
    "p.status{margin:0;opacity:.7;letter-spacing:.04em}"
    "h1{margin:.25rem 0 1rem;font-size:1.75rem;line-height:1.25}"
    "code{font-family:ui-monospace,monospace}"
)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; frame-ancestors 'none'"


async def explain(request: web.Request) -> web.Response:
    """``GET /problems/{slug}``: a page for a person, or JSON for a client that asks for it."""
    kind = TYPES.get(request.match_info["slug"])
    if kind is None:
        raise web.HTTPNotFound
    if "json" in request.headers.get(hdrs.ACCEPT, ""):
        content = {"type": kind.path, "title": kind.title, "status": kind.status, "explanation": kind.explanation}
        return web.Response(body=orjson.dumps(content), content_type="application/json", headers={hdrs.VARY: hdrs.ACCEPT})
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, hdrs.VARY: hdrs.ACCEPT}
    return web.Response(text=_page(kind), content_type="text/html", charset="utf-8", headers=headers)


def _page(kind: ProblemType) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(kind.title)} &ndash; Pickguard</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<p class="status"><code>{kind.slug}</code>, status {kind.status}</p>\n'
        f"<h1>{escape(kind.title)}</h1>\n<p>{escape(kind.explanation)}</p>\n</main>\n</body>\n</html>\n"
    )
