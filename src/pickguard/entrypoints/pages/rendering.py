"""How a page is made: templates, texts and a stylesheet, of the package or of a directory of one's own."""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp_jinja2
import attrs
import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup

from pickguard.domain.model.devices import Device
from pickguard.domain.model.errors import Fault
from pickguard.domain.model.sessions import Client
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.http.answers import OF_A_PAGE
from pickguard.entrypoints.http.keys import SERVICES
from pickguard.entrypoints.http.problems import CHALLENGE
from pickguard.entrypoints.pages.samples import samples
from pickguard.entrypoints.pages.texts import TextsError, fill, load_texts, moment_in_words, span_in_words
from pickguard.entrypoints.settings import Settings, SettingsError

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    **OF_A_PAGE,
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC: Final = Path(__file__).with_name("static")
_COMMON: Final = {"me": None, "notice": "", "has_mail": True, "has_grace": True, "grace": "30 days", "can_sign_up": True}
"""For each sample, what every page is given."""
STYLE: Final = "style.css"
CUSTOM_STYLE: Final = "custom.css"


class PagesError(SettingsError):
    """Templates, texts or a stylesheet of one's own cannot be used. The message is one line for a person."""


@attrs.frozen(kw_only=True, eq=False)
class Pages:
    """What the pages of one service are made from."""

    texts: SimpleNamespace
    prefix: str
    """What stands before ``/account`` where people reach the service: the path of its public URL, if it has one."""
    style: bytes
    script: bytes

    def path(self, name: str = "", **query: str | None) -> str:
        """Return where a page is for a browser: ``sign-in`` is ``/account/sign-in``. What is None in the query is left out."""
        asked = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items() if value)
        return f"{self.prefix}/account{'/' if name else ''}{name}{'?' if asked else ''}{asked}"


PAGES: Final = web.AppKey("pages", Pages)


def set_up(app: web.Application, settings: Settings) -> Pages:
    """Give an application what it needs to make pages. Raises `PagesError`."""
    own = settings.pages_templates
    try:
        texts = _with_service(load_texts(own), settings.service_name)
    except TextsError as error:
        raise PagesError(f"--pages-templates: {error}") from None
    pages = Pages(
        texts=texts,
        prefix=urlsplit(settings.public_url).path.rstrip("/"),
        style=_style(own),
        script=(_STATIC / "script.js").read_bytes(),
    )
    app[PAGES] = pages
    loaders: list[jinja2.BaseLoader] = [] if own is None else [jinja2.FileSystemLoader(own)]
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.ChoiceLoader([*loaders, jinja2.PackageLoader("pickguard.entrypoints.pages")]),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # what was tried is what is shown
        default_helpers=False,
    )
    del environment.globals["app"]  # which holds the use cases: a template shows what it is given, and no more
    shown = _Shown(texts)
    environment.globals |= {
        "service": settings.service_name,
        "initial": _initial(settings.service_name),
        "t": texts,
        "path": pages.path,
        "minimum": settings.password_min_length,
    }
    environment.filters |= {
        "fill": fill,
        "moment": shown.moment,
        "day": shown.day,
        "device": shown.device,
        "capitalized": _capitalized,
        "place": shown.place,
        "event": shown.event,
        "fault": shown.fault,
    }
    if own is not None:
        _try_all(environment, own)
    return pages


def render(
    request: web.Request,
    template: str,
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> web.Response:
    """Return a page."""
    services = request.app[SERVICES]
    context = {
        "me": None,
        "notice": "",
        "has_mail": services.has_mail,
        "has_grace": bool(services.deletion_grace),
        "grace": grace_of(request),
        "can_sign_up": services.registration.mode is not RegistrationMode.CLOSED,
        **values,
    }
    response = aiohttp_jinja2.render_template(template, request, context, status=int(status))
    response.headers.update(_HEADERS)
    response.headers.update(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers[hdrs.WWW_AUTHENTICATE] = CHALLENGE  # RFC 9110, section 15.5.2; no browser asks for a bearer token
    return response


def texts_of(request: web.Request) -> SimpleNamespace:
    """Return what the pages say."""
    return request.app[PAGES].texts


def grace_of(request: web.Request) -> str:
    """Return in words how long an account that its user has deleted can be kept."""
    return span_in_words(request.app[SERVICES].deletion_grace, texts_of(request))


def _style(own: Path | None) -> bytes:
    """Return the stylesheet: one's own in place of the package's, if there is one, and what one has added to it."""
    try:
        style = _STATIC / STYLE if own is None or not (own / STYLE).exists() else own / STYLE
        custom = None if own is None else own / CUSTOM_STYLE
        more = b"" if custom is None or not custom.exists() else b"\n" + custom.read_bytes()
        found = style.read_bytes() + more
        found.decode("utf-8")
    except OSError as error:
        raise PagesError(f"--pages-templates: a stylesheet cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PagesError("--pages-templates: a stylesheet is not text in UTF-8") from None
    return found


def _try_all(environment: jinja2.Environment, own: Path) -> None:
    """Render every page once with samples, so that a template that is broken is found now and not when somebody needs it."""
    known = {name for name, _ in samples()}
    for file in sorted(own.glob("*.html")):
        if file.name not in known and file.name not in {"layout.html", "parts.html"}:
            names = ", ".join(sorted(known))
            raise PagesError(f"--pages-templates: there is no page {file.name}; there are layout.html, parts.html, {names}")
    for name, values in samples():
        try:
            environment.get_template(name).render({**_COMMON, **values})
        except jinja2.TemplateSyntaxError as error:
            raise _unusable(f"{error.filename or name}, line {error.lineno}", error.message) from None
        except jinja2.TemplateNotFound as error:
            raise _unusable(name, f"there is no template {error.name}") from None
        except Exception as error:  # noqa: BLE001 (what a template calls may raise anything)
            raise _unusable(name, str(error) or type(error).__name__) from None


def _unusable(what: str, why: str | None) -> PagesError:
    return PagesError(" ".join(f"--pages-templates: {what}: {why}".split()))


def _initial(name: str) -> str:
    """Return the first letter of a name, for its badge."""
    return next((char.upper() for char in name if unicodedata.category(char)[0] in "LN"), "•")


def _capitalized(text: str) -> str:
    """Return a text as it begins a line."""
    return text[:1].upper() + text[1:]


class _Shown:
    """How values are written, in the words of the texts."""

    def __init__(self, texts: SimpleNamespace) -> None:
        self.texts = texts

    def moment(self, at: datetime) -> Markup:
        """Write a time so that a person and a program can read it."""
        return self._time(at, self.texts.time.format)

    def day(self, at: datetime) -> Markup:
        return self._time(at, self.texts.time.date)

    def _time(self, at: datetime, form: str) -> Markup:
        text = moment_in_words(at, self.texts, form)
        return Markup('<time datetime="{}">{}</time>').format(f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", text)

    def device(self, client: Client) -> str:
        device, words = Device.of(client), self.texts.devices
        program = device.program or words.unknown
        return program if device.system is None else fill(words.on, program=program, system=device.system)

    def place(self, client: Client) -> str:
        return client.ip or str(self.texts.devices.unknown_address)

    def event(self, name: str) -> str:
        return str(getattr(self.texts.events, name, self.texts.events.other))

    def fault(self, fault: Fault) -> str:
        return str(getattr(self.texts.faults, fault.code, fault.detail))


def _with_service(texts: SimpleNamespace, service: str) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            name: _with_service(value, service)
            if isinstance(value, SimpleNamespace)
            else fill(value, service=service)
            if isinstance(value, str)
            else value
            for name, value in vars(texts).items()
        }
    )
