"""What lies below the application: connections, and answers that no handler sees.

aiohttp's protocol answers what its parser refuses by itself, lets a first request take as long as it likes to arrive, and
waits for a slow reader for ever. Its class is public, its way to a server is not configurable, so the few things to change are
changed here, in subclasses, and tests hold aiohttp's newer versions to them.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pickguard.entrypoints.http.answers import HEADERS, STRICT_TRANSPORT_SECURITY
from pickguard.entrypoints.http.app import new_request_id, request_id
from pickguard.entrypoints.http.express import Express
from pickguard.entrypoints.http.keys import MEASURED, REQUEST_ID
from pickguard.entrypoints.http.problems import CONTENT_TYPE, TYPES, Problem, for_http_exception, problem, respond
from pickguard.entrypoints.http.routes import ME
from pickguard.entrypoints.http.watching import Answered

logger = logging.getLogger("pickguard.http")

HEADER_SECONDS: Final = 5.0
"""How long a request's header may take, from the connection or from its first byte."""
IDLE_SECONDS: Final = 75.0
"""How long a connection may wait for its next request: a little longer than proxies do by default."""
WRITE_SECONDS: Final = 10.0
"""How long an answer may lie unread."""
LINGERING_SECONDS: Final = 2.0
"""How long the rest of a refused body may still come in, so that a reset connection does not swallow the answer."""


MAX_TARGET_BYTES: Final = 8000
"""How long a request's target may be: as long as every recipient is to support (RFC 9112, section 3)."""
MAX_FIELD_BYTES: Final = 8190
"""How long the name and the value of a header may be together."""
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32 * 1024
"""How long a request may be up to its body."""

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) (/[!\"$-~]{0,7999}) HTTP/1\.1\r\n")
_TOO_MANY_HEADERS: Final = "Too many headers received"
"""What aiohttp's parser says of them; it has no error of its own for that."""
_UNCLEAR: Final = _ErrInfo(status=400, exc=ValueError("unclear request"), message="")
_TARGET_TOO_LONG: Final = _ErrInfo(status=414, exc=ValueError("too long a target"), message="")
_HEADERS_TOO_LARGE: Final = _ErrInfo(status=431, exc=ValueError("too large headers"), message="")


class _NamelessResponse(web.Response):
    """A response that does not say which software made it, also where no application prepares it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


class Connection(web.RequestHandler):
    """One connection, on which a client can be neither slow nor silent for long."""

    __slots__ = (
        "_answered",
        "_answering",
        "_asleep",
        "_body_left",
        "_ended",
        "_express",
        "_header_bytes",
        "_header_timer",
        "_last_payload",
        "_received",
        "_unread_timer",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        express: Express | None = None,
        answered: Answered | None = None,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGERING_SECONDS,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,  # those at the end of a body in chunks count as well
            # A body with Content-Encoding is refused, so nothing is ever decompressed.
            auto_decompress=False,
        )
        self._express = express
        self._answered = answered
        self._ended: Callable[[Connection], None] | None = None
        self._answering: asyncio.Task[None] | None = None
        self._asleep: asyncio.Future[None] | None = None
        self._header_bytes = 0
        """How much has come of the header that is waited for."""
        self._received = 0
        """How much has come since the last request was read, bodies included."""
        self._header_timer: asyncio.TimerHandle | None = None
        self._last_payload: StreamReader = EMPTY_PAYLOAD
        self._body_left = 0
        self._unread_timer: asyncio.TimerHandle | None = None

    def on_end(self, ended: "Callable[[Connection], None]") -> None:
        """Have it called when the connection has ended."""
        self._ended = ended

    @property
    def idle_since(self) -> float | None:
        """Since when, on the loop's clock, the client has owed a request or the rest of its header; None if it owes neither."""
        return self._next_keepalive_close_time - IDLE_SECONDS if self._is_waiting() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timers."""
        if self._asleep is not None:
            self._asleep.cancel()
            self._asleep = None
        super().connection_lost(exc)
        for timer in (self._header_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        if self._ended is not None:
            self._ended(self)

    def data_received(self, data: bytes) -> None:
        """Give a header that has begun its time to end, and refuse requests that can be read in two ways."""
        known = len(self._messages)
        # By this aiohttp would wake its task for requests. Who is to answer is decided below.
        waiter, self._waiter = self._waiter, None
        super().data_received(data)
        self._waiter = waiter
        self._body_left = self._count_body_left(data, new=len(self._messages) - known)
        self._received += len(data)
        if self._messages:
            first = self._messages[0][0]
            if known == self._header_bytes == 0 and isinstance(first, _ErrInfo) and isinstance(first.exc, BadHttpMethod):
                self._messages[0] = (_with_any_method(data) or _UNCLEAR, EMPTY_PAYLOAD)
            self._header_bytes = 0
        elif self._is_waiting():
            self._start_header_timer()
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._messages.append((_HEADERS_TOO_LARGE, EMPTY_PAYLOAD))
        if self._messages:
            self._stop_header_timer()
            self._last_payload = self._messages[-1][1]
            is_large, self._received = self._received > MAX_HEADER_BYTES, 0
            for index, (message, _) in enumerate(self._messages):
                instead = _in_place_of(message, is_large=is_large)
                if instead is not None:
                    self._messages[index] = (instead, EMPTY_PAYLOAD)
            if waiter is not None and not waiter.done() and not self._answer_by_express(waiter):
                waiter.set_result(None)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has sent a whole request and closed its side, where the transport lets us."""
        answering = not self._is_waiting() and self._last_payload.is_eof() and self.ssl_context is None
        if answering:
            self.close()  # when the answer is sent
        return answering

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, and end the connection where the client does not read it."""
        if isinstance(resp, web.HTTPException) and isinstance(request, web.Request):
            # Raised where no middleware is: aiohttp judges Expect on unknown paths before the application is asked.
            resp = respond(for_http_exception(resp), request_id(request))
        if self._answered is not None:
            measured = request.get(MEASURED)  # not of what the parser refused, nor of an expectation that is not met
            route, seconds = (None, None) if measured is None else (measured.route, measured.seconds)
            self._answered(request.method, route, resp.status, seconds)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                finished = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self.cut_off()
            return resp, True
        self._after_answer()
        return finished

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # not shown: it quotes what the client sent
    ) -> web.StreamResponse:
        """Answer what the parser or the application could not: in the form of every other answer, and without detail."""
        # What the parser refused has no headers to look for an id in.
        known_id = request.get(REQUEST_ID) or new_request_id()
        request[REQUEST_ID] = known_id
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(exc, ConnectionError):  # whose client is gone
            logger.error("request %s failed outside of the application", known_id, exc_info=exc)
        if request.writer.output_size > 0:
            message = "a part of another answer was sent already"
            raise ConnectionError(message)
        response = _refuse(_fault(status), known_id, secure=request.secure)
        response.force_close()
        return response

    def _count_body_left(self, data: bytes, *, new: int) -> int:
        """Return how much of the last request's body is to come; less than 0 if more than the request may have come.

        The parser does not say whether it holds the beginning of another request, so it is worked out from what arrived. Where
        that does not go, the answer is less than 0, which costs an honest client no more than an early end of its idle
        connection.
        """
        if new == 0:
            left = self._body_left - len(data)
        elif new == 1 and isinstance(message := self._messages[-1][0], RawRequestMessage):
            end = data.find(b"\r\n\r\n")
            length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
            left = -1 if end < 0 or not length.isdecimal() else int(length) - (len(data) - end - 4)
        else:
            left = -1
        # A header ends like this, and so does a body in chunks: what came before is complete.
        return max(left, 0) if data.endswith(b"\r\n\r\n") else left

    def _answer_by_express(self, waiter: "asyncio.Future[None]") -> bool:
        """Begin to answer the one request that there is, around aiohttp's task for requests; tell whether that goes."""
        message, payload = self._messages[0]
        if (
            self._express is None
            or len(self._messages) > 1
            or payload is not EMPTY_PAYLOAD
            or not isinstance(message, RawRequestMessage)
            or not self._express.takes(message)
            or self._parser is None
            or self._manager is None
            or self._paused  # by a client that does not read: the ordinary way waits for it, and gives it up
        ):
            return False
        self._messages.clear()
        self._parser.message_consumed()
        self._manager.requests_count += 1
        # Until there is an answer nothing may wake that task, nor may the connection pass for idle.
        self._asleep, self._waiter = waiter, None
        self._request_in_progress = True
        self._answering = self._loop.create_task(self._send_express(self._express, message))
        return True

    async def _send_express(self, express: Express, message: RawRequestMessage) -> None:
        try:
            content = await express.answer(message, secure=self.ssl_context is not None)
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(content)
                self._after_answer()
        except Exception:
            logger.exception("request %s failed outside of the application", f"GET {ME}")
            self.cut_off()
        finally:
            self._end_express()

    def _end_express(self) -> None:
        """Leave the connection as aiohttp's task does after an answer."""
        self._answering = None
        self._request_in_progress = False
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)
        waiter, self._asleep = self._asleep, None
        if waiter is None or waiter.done():
            return
        self._waiter = waiter
        if self._close or self._force_close:
            waiter.cancel()
            if self.transport is not None:
                self.transport.close()
        elif self._messages:
            waiter.set_result(None)
        else:
            self._keepalive = True
            self._next_keepalive_close_time = self._loop.time() + IDLE_SECONDS
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def _after_answer(self) -> None:
        self._watch_unread()
        if self._body_left < 0 and not self._messages:
            self._start_header_timer()

    def _is_waiting(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self._loop.call_later(HEADER_SECONDS, self._cut_off_header)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _cut_off_header(self) -> None:
        self._header_timer = None
        if self._is_waiting():
            self.cut_off()

    def _watch_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        if self.transport is not None and self.transport.get_write_buffer_size() > 0:
            self._unread_timer = self._loop.call_later(WRITE_SECONDS, self._cut_off_unread)

    def _cut_off_unread(self) -> None:
        self._unread_timer = None
        if self.transport is not None and self.transport.get_write_buffer_size() > 0:
            self.cut_off()

    def cut_off(self) -> None:
        """End the connection at once, with whatever was not sent yet."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()


def _fault(status: int) -> Problem:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return problem("internal-error", "The service failed to answer.")
    for slug in ("target-too-long", "headers-too-large"):
        if TYPES[slug].status == status:
            return problem(slug, TYPES[slug].explanation)
    return problem("malformed-request", "This is not an HTTP request that the service can read.")


def _in_place_of(message: RawRequestMessage | _ErrInfo, *, is_large: bool) -> RawRequestMessage | _ErrInfo | None:
    """Return what to take in place of a request that is too large, or that can be read in two ways; None for the others.

    After a CONNECT, which no resource has, comes no HTTP, so it is the last request (RFC 9110, section 9.3.6). `is_large` says
    that a request may be too large, so that few are measured. What the parser refused stays refused.
    """
    if isinstance(message, _ErrInfo):
        if isinstance(message.exc, LineTooLong) and message.exc.args[1] == MAX_TARGET_BYTES:
            return _TARGET_TOO_LONG
        is_many = isinstance(message.exc, BadHttpMessage) and message.exc.message == _TOO_MANY_HEADERS
        return _HEADERS_TOO_LARGE if is_many or isinstance(message.exc, LineTooLong) else message
    if is_large and _size(message) > MAX_HEADER_BYTES:
        return _HEADERS_TOO_LARGE
    # aiohttp answers in whatever version it is asked, and overlooks transfer codings beside chunked (RFC 9112, section 6.1). In
    # HTTP/1.0 there are none: one that stands there is a fault of framing (section 6.1, too).
    coding = message.headers.get(hdrs.TRANSFER_ENCODING)
    if message.version == HttpVersion11:
        is_framed = coding is None or coding.strip().lower() == "chunked"
    else:
        is_framed = coding is None and message.version == HttpVersion10
    if not is_framed or not _is_target(message):
        return _UNCLEAR
    if message.method == hdrs.METH_CONNECT:
        target = message.path if message.path[0] == "/" else "*"
        return message._replace(url=URL(target, encoded=True), should_close=True)
    return None


def _with_any_method(data: bytes) -> RawRequestMessage | None:
    """Return a request whose method the parser does not know, as far as it takes to answer with the methods that there are.

    None where it is no request (RFC 9110, section 9.1, and RFC 9112, section 3). Nothing that follows its first line is read:
    the connection ends with the answer.
    """
    match = _REQUEST_LINE.match(data)
    if match is None:
        return None
    method, path = (each.decode("ascii") for each in match.groups())
    if method in hdrs.METH_ALL:  # so it is what follows this request that has the method in question
        return None
    return RawRequestMessage(
        method=method,
        path=path,
        version=HttpVersion11,
        headers=CIMultiDictProxy(CIMultiDict({hdrs.HOST: "unread"})),
        raw_headers=(),
        should_close=True,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL(path, encoded=True),
    )


def _size(message: RawRequestMessage) -> int:
    """Return how many bytes a request has up to its body, but for the ends of its lines."""
    return len(message.path) + sum(len(name) + len(value) for name, value in message.raw_headers)


def _is_target(message: RawRequestMessage) -> bool:
    """Tell whether a request has a target as a server gets it (RFC 9112, section 3.2).

    None has a fragment, which others take for a part of the path. An absolute one is not of another scheme, since this is no
    proxy, and names no user (RFC 9110, section 4.2.4).
    """
    if "#" in message.path:
        return False
    if message.path[0] == "/" or message.method in {hdrs.METH_CONNECT, hdrs.METH_OPTIONS}:
        return True
    return message.url.scheme in {"http", "https"} and "@" not in message.url.raw_authority


def _refuse(found: Problem, known_id: str, *, secure: bool) -> web.Response:
    body = respond(found, known_id).body
    headers = {**HEADERS, "X-Request-ID": known_id}
    if secure:
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT_SECURITY
    return _NamelessResponse(status=found.type.status, body=body, content_type=CONTENT_TYPE, headers=headers)
