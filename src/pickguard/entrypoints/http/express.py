"""The shortest way to the one answer that other services ask for with each of their requests: whose token is this?

``GET /v1/users/me`` without conditions goes around aiohttp's router, middlewares and headers, which cost several times what the
answer does. It uses the same use case, and whatever is not plainly right about a request or its answer goes the ordinary way or
has the ordinary form.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_parser import RawRequestMessage

from pickguard.domain.model.users import User
from pickguard.entrypoints.http.answers import HEADERS, STRICT_TRANSPORT_SECURITY
from pickguard.entrypoints.http.app import new_request_id, problem_of, request_id_of
from pickguard.entrypoints.http.keys import CROSS_ORIGIN, SERVICES, SETTINGS, WATCHING
from pickguard.entrypoints.http.problems import Problem, respond
from pickguard.entrypoints.http.requests import HOST, token_of
from pickguard.entrypoints.http.routes import JSON_TYPE, ME, entity_tag
from pickguard.entrypoints.http.schemas import render_user

REMEMBERED: Final = 2048
"""How many users are kept as they were shown last."""


class _Limit:
    """`asyncio.timeout` at a fifth of its price, for a task that nothing else ends in this way."""

    __slots__ = ("_handle", "_task", "expired")

    def __init__(self, task: "asyncio.Task[Any] | None", seconds: float) -> None:
        assert task is not None  # noqa: S101 (a handler always runs in one)
        self.expired = False
        self._task = task
        self._handle = task.get_loop().call_later(seconds, self._expire)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._handle.cancel()
        if self.expired and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()


class Express:
    """Answers the requests that it takes. Who takes another way for them gets the same answers."""

    def __init__(self, app: web.Application) -> None:
        settings = app[SETTINGS]
        self._app = app
        self._services = app[SERVICES]
        self._shown = _Shown(with_pending=self._services.has_mail)
        self._limit = settings.request_timeout.total_seconds()
        watching = app[WATCHING]
        self._answered = watching.answered
        # Requests are logged and traced on the ordinary way; either costs as much as that does.
        self._is_on = not settings.access_log and watching.tracing is None
        self._knows_origins = app[CROSS_ORIGIN].is_configured  # what they are told is added there as well
        self._headers: dict[str, str] = dict(HEADERS)
        if self._knows_origins:
            self._headers[hdrs.VARY] = hdrs.ORIGIN
        plain: dict[str, str] = {**self._headers, hdrs.CONTENT_TYPE: JSON_TYPE}
        self._plain = f"HTTP/1.1 200 OK\r\n{_fields(plain)}"
        self._secure = f"{self._plain}{hdrs.STRICT_TRANSPORT_SECURITY}: {STRICT_TRANSPORT_SECURITY}\r\n"

    def takes(self, message: RawRequestMessage) -> bool:
        """Tell whether a request, which has no body, is answered here."""
        headers = message.headers
        return (
            message.path == ME
            and message.method == hdrs.METH_GET
            and message.version == HttpVersion11
            and not message.should_close
            and len(headers.getall(hdrs.AUTHORIZATION, ())) == len(headers.getall(hdrs.HOST, ())) == 1
            and HOST.fullmatch(headers[hdrs.HOST]) is not None
            and hdrs.IF_NONE_MATCH not in headers
            and hdrs.IF_MATCH not in headers
            and hdrs.EXPECT not in headers
            and not message.upgrade
            and self._is_on
            and not (self._knows_origins and hdrs.ORIGIN in headers)
        )

    async def answer(self, message: RawRequestMessage, *, secure: bool) -> bytes:
        """Return the whole answer to a request, ready to be sent."""
        began = 0.0 if self._answered is None else time.perf_counter()
        headers = message.headers
        known_id = request_id_of(headers) if "X-Request-ID" in headers else new_request_id()
        limit = _Limit(asyncio.current_task(), self._limit)
        try:
            with limit:
                principal = await self._services.authentication.authenticate(token_of(headers))
            body, own_headers = self._shown.of(principal.user)
        except Exception as error:  # noqa: BLE001 (every answer has the form of a problem)
            asked = f"{known_id} to {hdrs.METH_GET} {ME}"
            found = problem_of(error, self._app, asked=asked, safe=True, timed_out=limit.expired)
            if self._answered is not None:
                self._answered(hdrs.METH_GET, ME, found.type.status, time.perf_counter() - began)
            return self._refusal(found, known_id, secure=secure)
        if self._answered is not None:
            self._answered(hdrs.METH_GET, ME, 200, time.perf_counter() - began)
        head = self._secure if secure else self._plain
        return f"{head}{own_headers}Date: {rfc822_formatted_time()}\r\nX-Request-ID: {known_id}\r\n\r\n".encode() + body

    def _refusal(self, found: Problem, known_id: str, *, secure: bool) -> bytes:
        response = respond(found, known_id)
        headers = {**self._headers, **response.headers}
        if secure:
            headers[hdrs.STRICT_TRANSPORT_SECURITY] = STRICT_TRANSPORT_SECURITY
        headers |= {
            hdrs.CONTENT_LENGTH: str(response.content_length),
            hdrs.DATE: rfc822_formatted_time(),
            "X-Request-ID": known_id,
        }
        assert isinstance(response.body, bytes)  # noqa: S101 (as it was rendered)
        return f"HTTP/1.1 {response.status} {response.reason}\r\n{_fields(headers)}\r\n".encode() + response.body


class _Shown:
    """Users as they are shown, as long as the store goes on to answer with the same objects."""

    def __init__(self, *, with_pending: bool) -> None:
        self._with_pending = with_pending
        self._shown: dict[int, tuple[User, bytes, str]] = {}

    def of(self, user: User) -> tuple[bytes, str]:
        """Return the body, and the headers that depend on it."""
        found = self._shown.get(id(user))
        if found is not None and found[0] is user:
            return found[1], found[2]
        body = render_user(user, with_pending=self._with_pending)
        headers = f"{hdrs.CONTENT_LENGTH}: {len(body)}\r\n{hdrs.ETAG}: {entity_tag(body)}\r\n"
        if len(self._shown) >= REMEMBERED:
            self._shown.clear()
        self._shown[id(user)] = user, body, headers
        return body, headers


def _fields(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
