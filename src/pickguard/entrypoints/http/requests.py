"""What is read of a request: the bearer token, the body, conditions and parameters. Each refusal is a problem."""

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote_plus

import attrs
from aiohttp import HttpVersion11, hdrs, web

from pickguard.domain.model.errors import InvalidServiceCredential, InvalidToken
from pickguard.domain.model.sessions import Client
from pickguard.entrypoints.http import strict_json
from pickguard.entrypoints.http.forwarding import client_address
from pickguard.entrypoints.http.keys import CLIENTS_SECONDS, DEADLINE, SETTINGS
from pickguard.entrypoints.http.problems import CHALLENGE, ProblemError, problem

MAX_BODY_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 6.0
"""How long a body may take to arrive; a client that is slower is cut off."""

# RFC 9110, sections 8.3.1 and 5.6.6, without the star of RFC 2231's parameters. The standard library's parser takes quadratic
# time, and those parameters as well.
_WORD = r"[!#$%&'+.^_`|~0-9A-Za-z-]++"
_MEDIA_TYPE = re.compile(
    rf"({_WORD}/{_WORD})((?:[ \t]*+;[ \t]*+(?:{_WORD}=(?:{_WORD}|\"(?:[^\"\\]|\\.)*+\"))?)*+)[ \t]*+", re.ASCII
)
_PARAMETER = re.compile(rf"({_WORD})=(?:({_WORD})|\"((?:[^\"\\]|\\.)*+)\")", re.ASCII)

_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"')

HOST: Final = re.compile(
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})++|\[[0-9A-Fa-f:.]++\])"
    r"(?::(?:[0-9]{0,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?",
    re.ASCII,
)
"""What may stand in a Host header: RFC 9110, section 7.2, and RFC 3986, section 3.2.2. An empty host names nobody (4.2.1)."""

_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

_KEY = re.compile(r"[\x20-\x7e]{1,255}")

UUID_TEXT: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
"""The one form of a UUID that clients are given (RFC 9562, section 4)."""

JSON: Final = ("application/json",)
JSON_OR_MERGE_PATCH: Final = ("application/json", "application/merge-patch+json")
FORM: Final = ("application/x-www-form-urlencoded",)
_MAX_PARAMETERS: Final = 32
# The URL Standard, section 5.1: what a form has for anything else is written in percents.
_FORM_TEXT = re.compile(r"(?:[A-Za-z0-9._~*+&=!$'(),;:@/?-]|%[0-9A-Fa-f]{2})*+", re.ASCII)


def bearer_token(request: web.Request) -> str:
    """Return a request's token. Raises a problem where it has none, `InvalidToken` where it cannot be one."""
    return token_of(request.headers)


def token_of(headers: Mapping[str, str]) -> str:
    """Return the text after the scheme of the one Authorization header (RFC 6750, section 2.1)."""
    header = headers.get(hdrs.AUTHORIZATION, "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip(" "):
        raise ProblemError(
            problem(
                "authentication-required",
                "Send the access token of a log-in in the header Authorization: Bearer TOKEN.",
                headers={hdrs.WWW_AUTHENTICATE: CHALLENGE},
            )
        )
    token = token.strip(" ")
    if not token.isascii():
        raise InvalidToken
    return token


def refuse_ambiguity(request: web.Request) -> None:
    """Refuse a request that can be read in two ways: which Authorization or Host counts is not for the service to guess.

    A request of HTTP/1.1 without exactly one Host, or with one that cannot be, is to be answered with 400 (RFC 9112, section
    3.2).
    """
    if len(request.headers.getall(hdrs.AUTHORIZATION, ())) > 1:
        raise ProblemError(problem("malformed-request", "There is more than one Authorization header."))
    hosts = request.headers.getall(hdrs.HOST, ())
    if len(hosts) > 1 or (not hosts and request.version >= HttpVersion11):
        raise ProblemError(problem("malformed-request", "There must be exactly one Host header."))
    if hosts and not HOST.fullmatch(hosts[0]):
        raise ProblemError(problem("malformed-request", "The Host header must be a host, and a port if need be."))


def client_of(request: web.Request) -> Client:
    """Return where a request comes from: its peer, or whom a trusted proxy names. Everything that asks asks here."""
    lines = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
    ip = client_address(request.remote, lines, request.app[SETTINGS].trusted_proxies)
    return Client(ip=ip, user_agent=request.headers.get(hdrs.USER_AGENT))


def idempotency_key(request: web.Request) -> str | None:
    """Return what the client calls this request, so that it can be sent again (draft-ietf-httpapi-idempotency-key-header)."""
    given = request.headers.getall("Idempotency-Key", ())
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        detail = "Send one Idempotency-Key of 1 to 255 ASCII characters, such as a UUID, new for each registration."
        raise ProblemError(problem("malformed-request", detail))
    return given[0]


async def read_json(request: web.Request, accepted: tuple[str, ...] = JSON) -> Any:
    """Return what the body says. Raises problems for its type, its size, its pace and its JSON."""
    _check_type(request, accepted)
    data = await _read_body(request)
    try:
        return strict_json.parse(data)
    except strict_json.JsonError as error:
        message = str(error)
        raise ProblemError(problem("malformed-body", f"{message[0].upper()}{message[1:]}.")) from None


async def read_form(request: web.Request) -> bytes:
    """Return a form that a browser sent, encoded as it is. Raises problems for its type, its size and its pace."""
    _check_type(request, FORM)
    return await _read_body(request)


async def read_parameters(request: web.Request) -> dict[str, str]:
    """Return the parameters of a form (RFC 6749, appendix B). Raises problems as `read_json` does.

    A parameter that is sent twice is a problem, one without a value is as if it were not there (section 3.1).
    """
    text = (await read_form(request)).decode("ascii", "replace")
    if not _FORM_TEXT.fullmatch(text):
        raise ProblemError(problem("malformed-body", "The body has characters that a form writes as percent signs and digits."))
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise ProblemError(problem("malformed-body", "The form is not UTF-8.")) from None
    except ValueError:
        raise ProblemError(problem("malformed-body", f"A form has at most {_MAX_PARAMETERS} parameters.")) from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise ProblemError(problem("malformed-body", "The form has a parameter twice."))
    return {name: value for name, value in form.items() if value}


def service_credential(request: web.Request) -> tuple[str | None, str]:
    """Return what a service calls itself, None where it does not, and its secret: by HTTP Basic or as a bearer.

    RFC 6749, section 2.3.1: name and secret are encoded as a form is before they become the user and the password of RFC 7617.
    Raises `InvalidServiceCredential` for what cannot be either.
    """
    scheme, _, content = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    content = content.strip(" ")
    if scheme.lower() == "bearer":
        return None, content
    if scheme.lower() != "basic":
        raise InvalidServiceCredential
    try:
        name, colon, secret = base64.b64decode(content, validate=True).decode("ascii").partition(":")
    except ValueError:
        raise InvalidServiceCredential from None
    if not colon:
        raise InvalidServiceCredential
    return unquote_plus(name), unquote_plus(secret)


def has_parameter(request: web.Request, name: str, value: str) -> bool:
    """Tell whether a query parameter has its one value; any other value is a problem."""
    given = request.query.getall(name, [])
    if any(each != value for each in given):
        raise ProblemError(problem("malformed-request", f"The query parameter {name} has one value: {value}."))
    return bool(given)


def preferred_type(request: web.Request, offered: tuple[str, ...]) -> str:
    """Return which of the media types that there are the client likes best (RFC 9110, section 12.5.1).

    Of those it likes alike, the one that it names more exactly, else the first. So is the first where it takes none of them: a
    type that was not asked for says more than a refusal. Who takes some other kind of JSON is taken to take JSON.
    """
    ranges = [
        ("application/json" if name.endswith("+json") else name, weight) for name, weight in _weighted(request, hdrs.ACCEPT)
    ]

    def liking(kind: str) -> tuple[float, int]:
        patterns = ("*/*", f"{kind.partition('/')[0]}/*", kind)
        known = [(exactness, weight) for name, weight in ranges for exactness, each in enumerate(patterns) if each == name]
        exactness, weight = max(known, default=(-1, 0.0))
        return weight, exactness

    return max(offered, key=liking) if ranges else offered[0]


def accepts_coding(request: web.Request, coding: str) -> bool:
    """Tell whether a client says that it takes a content coding (RFC 9110, section 12.5.3)."""
    weights = dict(reversed(_weighted(request, hdrs.ACCEPT_ENCODING)))
    return weights.get(coding, weights.get("*", 0.0)) > 0


def _weighted(request: web.Request, header: str) -> list[tuple[str, float]]:
    """Return what a header lists, each with its weight from 0 to 1 (RFC 9110, section 12.4.2)."""
    found = []
    for each in ",".join(request.headers.getall(header, ())).split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        weights = [match[1] for match in map(_WEIGHT.fullmatch, parameters) if match]
        if name:
            found.append((name, float(weights[-1]) if weights else 1.0))
    return found


@attrs.frozen(kw_only=True)
class Condition:
    """The entity tags of an If-Match or If-None-Match header (RFC 9110, sections 13.1.1 and 13.1.2).

    aiohttp reads these headers as well, but does not tell ``*``, which matches anything, from the tag ``"*"``, and looks at the
    first line of several only.
    """

    anything: bool
    strong: frozenset[str]
    weak: frozenset[str]

    @classmethod
    def of(cls, request: web.Request, header: str) -> Self | None:
        """Return a request's condition, or None where it has none. What is no tag matches nothing."""
        lines = request.headers.getall(header, ())
        if not lines:
            return None
        text = ",".join(lines)
        tags = _ENTITY_TAG.findall(text)
        return cls(
            anything=text.strip() == "*",
            strong=frozenset(tag for weak, tag in tags if not weak),
            weak=frozenset(tag for weak, tag in tags if weak),
        )

    def matches(self, tag: str, *, weakly: bool) -> bool:
        """Compare with the present (strong) tag, in the weak or the strong way (section 8.8.3.2)."""
        return self.anything or tag in self.strong or (weakly and tag in self.weak)


def _check_type(request: web.Request, accepted: tuple[str, ...]) -> None:
    wanted = " or ".join(accepted)
    given = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(given) != 1:
        raise _unsupported(f"Send one Content-Type header: {wanted}.", accepted)
    match = _MEDIA_TYPE.fullmatch(given[0])
    if match is None or match[1].lower() not in accepted:
        raise _unsupported(f"The Content-Type must be {wanted}.", accepted)
    parameters = [(name.lower(), (plain or quoted).lower()) for name, plain, quoted in _PARAMETER.findall(match[2])]
    charsets = [value for name, value in parameters if name == "charset"]
    if charsets not in ([], ["utf-8"], ["utf8"]):
        raise _unsupported("The charset must be UTF-8.", accepted)
    if hdrs.CONTENT_ENCODING in request.headers:
        raise _unsupported("The body must not be encoded: leave Content-Encoding out.", accepted)


def _unsupported(detail: str, accepted: tuple[str, ...]) -> ProblemError:
    # RFC 9110, section 15.5.16, and RFC 5789, section 3.1: say what would have been accepted.
    name = "Accept-Patch" if accepted == JSON_OR_MERGE_PATCH else hdrs.ACCEPT
    return ProblemError(problem("unsupported-media-type", detail, headers={name: ", ".join(accepted)}, close=True))


async def _read_body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with _clients_own_time(request), asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError:
        detail = f"The body did not arrive within {BODY_SECONDS:.0f} seconds."
        raise ProblemError(problem("request-timeout", detail, close=True)) from None
    except (web.RequestPayloadError, ConnectionError):
        raise ProblemError(problem("malformed-request", "The body ended before it was complete.", close=True)) from None
    return bytes(body)


def _too_large() -> ProblemError:
    detail = f"A body has at most {MAX_BODY_BYTES // 1024} KiB."
    return ProblemError(problem("body-too-large", detail, close=True))


@asynccontextmanager
async def _clients_own_time(request: web.Request) -> AsyncGenerator[None]:
    """Stop the clock of the request while the client is what it waits for."""
    deadline, loop = request[DEADLINE], asyncio.get_running_loop()
    due, began = deadline.when(), loop.time()
    left = None if due is None else due - began
    if not deadline.expired():  # else what waits next is told
        deadline.reschedule(None)
    try:
        yield
    finally:
        request[CLIENTS_SECONDS] = request.get(CLIENTS_SECONDS, 0.0) + loop.time() - began
        if not deadline.expired():
            deadline.reschedule(None if left is None else loop.time() + left)
