"""The shortest way to the one answer that other services ask for with each of their requests: whose token is this?

``GET /v1/users/me`` without conditions goes around aiohttp's router, middlewares and headers, which cost several times what the
answer does. It uses the same use case, and whatever is not plainly right about a request or its answer goes the ordinary way or
has the ordinary form.
"""

import asyncio
from typing import Any, Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from pickguard.domain.model.users import User
from pickguard.entrypoints.http.app import HEADERS, STRICT_TRANSPORT_SECURITY, new_request_id, problem_of, request_id
from pickguard.entrypoints.http.keys import SERVICES, SETTINGS
from pickguard.entrypoints.http.problems import CONTENT_TYPE as PROBLEM_TYPE
from pickguard.entrypoints.http.problems import Problem, respond
from pickguard.entrypoints.http.requests import bearer_token
from pickguard.entrypoints.http.routes import JSON_TYPE, ME, entity_tag
from pickguard.entrypoints.http.schemas import render_user

REMEMBERED: Final = 2048
"""How many users are kept as they were shown last."""
_HEAD: Final = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, hdrs.CONTENT_TYPE: JSON_TYPE}.items())
_PLAIN: Final = f"HTTP/1.1 200 OK\r\n{_HEAD}"
_SECURE: Final = f"{_PLAIN}{hdrs.STRICT_TRANSPORT_SECURITY}: {STRICT_TRANSPORT_SECURITY}\r\n"


class _NamelessResponse(web.Response):
    """A response that does not say which software made it, also where no application prepares it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


class Ready:
    """An answer in one piece, to be written as it is."""

    __slots__ = ("content",)

    keep_alive = True
    status = 200

    def __init__(self, content: bytes) -> None:
        self.content = content


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
    """What connections call instead of the application; it answers, or calls the application."""

    def __init__(self, app: web.Application) -> None:
        settings = app[SETTINGS]
        self._app = app
        self._services = app[SERVICES]
        self._shown = _Shown()
        self._limit = settings.request_timeout.total_seconds()
        self._is_on = not settings.access_log  # whose lines are written where the ordinary way ends

    async def __call__(self, request: web.Request) -> web.StreamResponse | Ready:
        """Answer a request."""
        if not (self._is_on and _is_plain(request)):
            return await self._app._handle(request)  # noqa: SLF001 (what a server of aiohttp's calls)
        limit = _Limit(asyncio.current_task(), self._limit)
        try:
            with limit:
                principal = await self._services.authentication.authenticate(bearer_token(request))
        except Exception as error:  # noqa: BLE001 (every answer has the form of a problem)
            found = problem_of(error, request, self._app, route=ME, timed_out=limit.expired)
            return refuse(found, request_id(request), secure=request.secure)
        given = request.headers.getall("X-Request-ID", ())
        body, tag = self._shown.of(principal.user)
        return Ready(
            f"{_SECURE if request.secure else _PLAIN}{tag}Date: {rfc822_formatted_time()}\r\n"
            f"X-Request-ID: {request_id(request) if given else new_request_id()}\r\n\r\n".encode()
            + body
        )


class _Shown:
    """Users as they are shown, as long as the store goes on to answer with the same objects."""

    def __init__(self) -> None:
        self._shown: dict[int, tuple[User, bytes, str]] = {}

    def of(self, user: User) -> tuple[bytes, str]:
        """Return the body, and the headers that depend on it."""
        found = self._shown.get(id(user))
        if found is not None and found[0] is user:
            return found[1], found[2]
        body = render_user(user)
        headers = f"{hdrs.CONTENT_LENGTH}: {len(body)}\r\n{hdrs.ETAG}: {entity_tag(body)}\r\n"
        if len(self._shown) >= REMEMBERED:
            self._shown.clear()
        self._shown[id(user)] = user, body, headers
        return body, headers


def _is_plain(request: web.Request) -> bool:
    message = request._message  # noqa: SLF001 (through the request's properties it costs as much as all of the use case)
    headers = message.headers
    return (
        message.path == ME
        and message.method == hdrs.METH_GET
        and message.version == HttpVersion11
        and not message.should_close
        and len(headers.getall(hdrs.AUTHORIZATION, ())) == len(headers.getall(hdrs.HOST, ())) == 1
        and hdrs.IF_NONE_MATCH not in headers
        and hdrs.IF_MATCH not in headers
        and hdrs.EXPECT not in headers
        and hdrs.UPGRADE not in headers
    )


def refuse(found: Problem, known_id: str, *, secure: bool) -> web.Response:
    """Render a problem with all headers, also where no application prepares the answer."""
    body = respond(found, known_id).body
    headers = {**HEADERS, **found.headers, "X-Request-ID": known_id}
    if secure:
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT_SECURITY
    return _NamelessResponse(status=found.type.status, body=body, content_type=PROBLEM_TYPE, headers=headers)
