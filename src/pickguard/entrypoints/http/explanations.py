"""The pages that explain problem types, at the paths that problem details name as their ``type``."""

import base64
import hashlib
from functools import cache
from html import escape
from typing import Final

import orjson
from aiohttp import hdrs, web

from pickguard.entrypoints.http.answers import OF_A_PAGE
from pickguard.entrypoints.http.keys import SETTINGS
from pickguard.entrypoints.http.problems import TYPES, ProblemType
from pickguard.entrypoints.http.requests import preferred_type
from pickguard.entrypoints.http.schemas import ShownExplanation, ShownExplanations

HTML, JSON = "text/html", "application/json"
PATH: Final = "/problems"

_STYLE = (
    ":root{color-scheme:light dark;font:1.0625rem/1.6 system-ui,sans-serif;--quiet:#57606a;--line:#d0d7de;--link:#0a58ca}"
    "@media(prefers-color-scheme:dark){:root{--quiet:#9ea7b3;--line:#3d444d;--link:#79b8ff}}"
    "body{max-width:40rem;margin:0 auto;padding:4rem 1.25rem 2rem}"
    ".status{margin:0;color:var(--quiet);letter-spacing:.02em}"
    "h1{margin:.25rem 0 1rem;font-size:1.75rem;line-height:1.25}"
    "code{font-family:ui-monospace,monospace;font-size:.9375em;overflow-wrap:anywhere}"
    "a{color:var(--link)}"
    "dl{margin:2rem 0}dt{margin-top:1.25rem}dd{margin:0}"
    "footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--quiet);font-size:.9375rem}"
)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def explain(request: web.Request) -> web.Response:
    """``GET /problems/{slug}``: a page for a person, or JSON for a client that prefers it."""
    kind = TYPES.get(request.match_info["slug"])
    if kind is None:
        raise web.HTTPNotFound
    if preferred_type(request, (HTML, JSON)) == JSON:
        return _json(_shown(kind))
    return _html(_page_of(kind.slug, has_docs=_has_docs(request)))


async def list_all(request: web.Request) -> web.Response:
    """``GET /problems``: all types, in the same two forms."""
    if preferred_type(request, (HTML, JSON)) == JSON:
        return _json({"problems": [_shown(kind) for kind in TYPES.values()]})
    return _html(_page_of_all(has_docs=_has_docs(request)))


PROBLEM_ROUTES: Final = (
    (hdrs.METH_GET, PATH, list_all),
    (hdrs.METH_GET, f"{PATH}/{{slug}}", explain),
)
"""What there is in any case: problems say that it is there."""


def _has_docs(request: web.Request) -> bool:
    return request.app[SETTINGS].docs == "on"


def _shown(kind: ProblemType) -> ShownExplanation:
    return {"type": kind.path, "title": kind.title, "status": kind.status, "explanation": kind.explanation}


def _json(content: ShownExplanation | ShownExplanations) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type=JSON, headers={hdrs.VARY: hdrs.ACCEPT})


def _html(text: str) -> web.Response:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, **OF_A_PAGE, hdrs.VARY: hdrs.ACCEPT}
    return web.Response(text=text, content_type=HTML, charset="utf-8", headers=headers)


@cache
def _page_of(slug: str, *, has_docs: bool) -> str:
    kind = TYPES[slug]
    content = (
        f'<p class="status"><code>{kind.slug}</code>, status {kind.status}</p>\n'
        f"<h1>{escape(kind.title)}</h1>\n<p>{escape(kind.explanation)}</p>\n"
    )
    # Links lead on from the page's own place, which a proxy may have put below a path of its own.
    others = '<a href="../problems">All problems</a>'
    docs = ', <a href="../docs">the API</a>' if has_docs else ""
    return _page(kind.title, content, f"{others}{docs}")


@cache
def _page_of_all(*, has_docs: bool) -> str:
    entries = "".join(
        f'<dt><a href="problems/{kind.slug}">{escape(kind.title)}</a></dt>\n'
        f'<dd class="status"><code>{kind.slug}</code>, status {kind.status}</dd>\n'
        for kind in TYPES.values()
    )
    content = (
        "<h1>What a request can be refused for</h1>\n<p>Each answer that is an error says in <code>type</code> which of these "
        f"problems it is (RFC 9457).</p>\n<dl>\n{entries}</dl>\n"
    )
    return _page("Problems", content, '<a href="docs">The API</a>' if has_docs else "")


def _page(title: str, content: str, links: str) -> str:
    footer = f"<footer>{links}</footer>\n" if links else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} &ndash; Pickguard</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{content}</main>\n{footer}</body>\n</html>\n"
    )
