"""The HTTP API as it is served, and clients that hold every answer to what all answers have in common."""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

import attrs
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy

from pickguard.adapters.files.service_credentials import ServiceCredentialFile
from pickguard.adapters.memory_limits import Unlimited
from pickguard.domain.model.sessions import SessionRules
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.entrypoints.http.acceptor import Acceptor
from pickguard.entrypoints.http.app import create_app, is_page
from pickguard.entrypoints.http.express import Express
from pickguard.entrypoints.http.protocol import Connection
from pickguard.entrypoints.http.watching import Watching
from pickguard.entrypoints.pages.routes import CHANGE_PASSWORD
from pickguard.entrypoints.settings import Settings
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.clock import Clock
from pickguard.ports.deferred import Deferred, Pace
from pickguard.ports.events import EventPublisher
from pickguard.ports.hashing import PasswordHasher
from pickguard.ports.limits import RateLimiter
from pickguard.ports.mail import Mailer
from pickguard.ports.passwords import CommonPasswords
from pickguard.ports.receipts import Receipts
from tests.support.description import Description, description_of
from tests.support.fakes import GOOD_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher

_MORE_MEMBERS: Final = {"/problems/deletion-pending": {"deletes_at"}}
"""What types of problems have beside the members that all have."""
PATIENCE: Final = 10.0
"""Seconds until a test gives up on an answer that does not come. Nothing waits this long unless it fails."""
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
HTML: Final = "text/html; charset=utf-8"
NAME: Final = "Ada Lovelace"
EMAIL: Final = "ada@example.com"
FILES: Final = {f"text/{kind}; charset=utf-8" for kind in ("javascript", "css", "plain")}
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
# No limit of the service may come into play because the machine is busy.
SETTINGS: Final = Settings(store="memory:", no_tls=True, request_timeout=timedelta(seconds=30))


@attrs.frozen(kw_only=True)
class Answer:
    """One answer, read whole."""

    method: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """Which problem this is."""
        kind = self.json()["type"]
        assert kind.startswith("/problems/"), kind
        return str(kind.removeprefix("/problems/"))

    @property
    def outcome(self) -> tuple[int, str]:
        """The status and, where there is one, the problem."""
        return self.status, self.slug if self.headers.get("Content-Type") == PROBLEM and self.body else ""

    @property
    def faults(self) -> list[tuple[str, str]]:
        """The faults of a 422, as pointer and code, sorted."""
        assert self.outcome == (422, "invalid-body"), self
        errors = self.json()["errors"]
        assert all(set(each) == {"pointer", "code", "detail"} and each["detail"] for each in errors), errors
        return sorted((each["pointer"], each["code"]) for each in errors)

    @property
    def etag(self) -> str:
        tag = self.headers["ETag"]
        assert re.fullmatch(r'"[!#-~]+"', tag, re.ASCII), tag
        return tag


def check_conventions(answer: Answer, *, secure: bool = False, cross_origin: bool = False) -> None:
    """Assert what the contract says of every answer, whatever its status."""
    headers = answer.headers
    assert "Server" not in headers  # ASVS 13.4.6
    told = sorted(name.lower() for name in headers if name.lower().startswith("access-control-"))
    if cross_origin and answer.status not in {414, 431}:  # which are refused before anything is read of them
        assert "origin" in headers["Vary"].lower().split(", ")
        assert "access-control-allow-credentials" not in told
        assert headers.get("Access-Control-Allow-Origin") != "*"
    else:
        assert not told
        assert "origin" not in headers.get("Vary", "").lower()
    assert len(headers.getall("X-Request-ID")) == 1
    UUID(headers["X-Request-ID"])
    assert headers.getall("Cache-Control") == ["no-store"]  # ASVS 14.3.2; the next ones are 3.2.1, 3.4.1 and 3.4.4 to 3.4.6
    assert headers.getall("X-Content-Type-Options") == ["nosniff"]
    assert headers.getall("Referrer-Policy") == ["no-referrer"]
    policy = headers["Content-Security-Policy"]
    if headers.get("Content-Type", "").startswith("text/html"):
        assert policy.startswith("default-src 'none'"), policy
        assert "unsafe-inline" not in policy
    else:
        assert policy == "default-src 'none'; frame-ancestors 'none'"
    wanted = ["max-age=31536000; includeSubDomains"] if secure else []
    assert headers.getall("Strict-Transport-Security", []) == wanted
    if answer.status == 401:
        assert headers["WWW-Authenticate"].startswith('Bearer realm="pickguard"')
    if answer.status == 405:
        assert headers["Allow"]
    if answer.status in {429, 503}:
        assert int(headers["Retry-After"]) >= 1
    if answer.status == 303:  # from one page to another
        assert re.match(r"(/[^/?]+)*/account[/?]|(/[^/?]+)*/account$", headers["Location"])
        assert not answer.body
        return
    assert answer.status < 300 or answer.status >= 400 or answer.status == 304, "nothing else is redirected"
    _check_type(answer)
    if answer.status in {204, 304}:
        assert answer.body == b""
        assert "Content-Length" not in headers or answer.status == 304
    if answer.status >= 400:
        if headers["Content-Type"] == HTML:  # an account page; see tests/support/pages.py
            assert b"Traceback" not in answer.body
        else:
            _check_problem(answer)


def _is_of_pages(path: str, answer: Answer) -> bool:
    """Tell whether an answer is one of the account pages, which the description of the API says nothing of."""
    return path == CHANGE_PASSWORD or (is_page(unquote(path)) and answer.headers.get("Content-Type") != PROBLEM)


def _check_type(answer: Answer) -> None:
    """Assert that the body is what Content-Type says (ASVS 4.1.1)."""
    kinds = answer.headers.getall("Content-Type", [])
    if answer.status in {204, 304} or (answer.status == 202 and not answer.body):
        assert kinds == []
        return
    assert len(kinds) == 1
    if kinds[0] in FILES and answer.status == 200:  # of pages
        return
    assert kinds[0] in {JSON, PROBLEM, HTML}
    if answer.method != "HEAD":
        text = answer.body.decode()
        if kinds[0] in {JSON, PROBLEM}:  # which are in UTF-8 and have no charset (RFC 8259, sections 8.1 and 11)
            json.loads(text)
        elif kinds[0] == HTML:
            assert text.startswith("<!doctype html>")


def _check_problem(answer: Answer) -> None:
    """Assert that an error is a problem with the status of its answer (RFC 9457, section 3)."""
    assert answer.headers["Content-Type"] == PROBLEM
    if answer.method == "HEAD":
        return
    content = answer.json()
    named = {"type", "title", "status", "detail", "instance"}
    more = {"errors"} if answer.status == 422 else _MORE_MEMBERS.get(content["type"], set())
    assert set(content) == named | more
    assert re.fullmatch(r"/problems/[a-z0-9-]+", content["type"]), content
    assert content["status"] == answer.status
    assert content["title"]
    assert content["detail"]
    assert content["instance"] == f"urn:uuid:{answer.headers['X-Request-ID']}"
    if answer.status == 422:
        assert content["errors"]
    assert b"Traceback" not in answer.body


class Wire:
    """One connection, on which a test sends whatever bytes it likes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, secure: bool, cross_origin: bool = False
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._secure = secure
        self._cross_origin = cross_origin
        self.interim: list[int] = []

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """Read one final answer; the statuses of those before it (1xx) are kept."""
        async with asyncio.timeout(PATIENCE):
            while True:
                head = await self.reader.readuntil(b"\r\n\r\n")
                found = await self._parse(head, method)
                if found.status >= 200:
                    check_conventions(found, secure=self._secure, cross_origin=self._cross_origin)
                    return found
                self.interim.append(found.status)

    async def rest(self) -> bytes:
        """Return what comes until the other side ends the connection, in whichever way."""
        content = bytearray()
        async with asyncio.timeout(PATIENCE):
            try:
                while chunk := await self.reader.read(65536):
                    content += chunk
            except ConnectionError:
                pass
        return bytes(content)

    async def _parse(self, head: bytes, method: str) -> Answer:
        first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version in {"HTTP/1.0", "HTTP/1.1"}
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.partition(":")
            headers.add(name, value.strip())
        has_body = method != "HEAD" and int(status) >= 200 and int(status) not in {204, 304}
        body = await self.reader.readexactly(int(headers["Content-Length"])) if has_body else b""
        return Answer(method=method, status=int(status), headers=CIMultiDictProxy(headers), body=body)


class Api:
    """A served application, and a client of it."""

    def __init__(
        self,
        *,
        port: int,
        session: ClientSession,
        tls: ssl.SSLContext | None,
        settings: Settings,
        description: Description | None = None,
    ) -> None:
        self.port = port
        self.base = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
        self.description = description or description_of(settings)
        self._cross_origin = bool(settings.cors_origins)
        self._session = session
        self._tls = tls

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | CIMultiDict[str] | None = None,
    ) -> Answer:
        """Send one request; `body` goes as JSON, `data` as it is. None of them means that there is no body."""
        sent = CIMultiDict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", JSON)
        async with (
            asyncio.timeout(PATIENCE * 3),
            self._session.request(method, path, data=data, headers=sent, allow_redirects=False) as response,
        ):
            content = await response.read()
            answer = Answer(method=method, status=response.status, headers=response.headers, body=content)
            asked = response.url.raw_path
        check_conventions(answer, secure=self._tls is not None, cross_origin=self._cross_origin)
        if _is_of_pages(asked, answer):
            return answer
        self.description.check(method, asked, status=answer.status, headers=answer.headers, body=answer.body, sent=data)
        return answer

    @asynccontextmanager
    async def wire(self, *, receive_buffer: int | None = None) -> AsyncGenerator[Wire]:
        """Open a connection for bytes of one's own."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.port))
        # A limit this small stops reading early where a test means not to read at all.
        limit = 64 * 1024 if receive_buffer is None else receive_buffer
        name = "127.0.0.1" if self._tls else None
        reader, writer = await asyncio.open_connection(sock=connection, ssl=self._tls, server_hostname=name, limit=limit)
        try:
            yield Wire(reader, writer, secure=self._tls is not None, cross_origin=self._cross_origin)
        finally:
            writer.transport.abort()

    async def raw(self, data: bytes, method: str = "GET") -> Answer:
        """Send bytes on a connection of their own and return the answer to them."""
        async with self.wire() as wire:
            await wire.send(data)
            return await wire.answer(method)

    async def register(self, *, name: str = NAME, email: str = EMAIL, password: str = GOOD_PASSWORD) -> Any:
        """Register, with success; return the User."""
        answer = await self.call("POST", "/v1/users", {"name": name, "email": email, "password": password})
        assert answer.status == 201, answer
        return answer.json()

    async def try_log_in(self, email: str = EMAIL, password: str = GOOD_PASSWORD, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", "/v1/sessions", {"email": email, "password": password}, headers=named)

    async def log_in(self, email: str = EMAIL, password: str = GOOD_PASSWORD, **headers: str) -> str:
        """Log in, with success; return the token."""
        answer = await self.try_log_in(email, password, **headers)
        assert answer.status == 201, answer
        return str(answer.json()["access_token"])

    async def sign_up(self, *, name: str = NAME, email: str = EMAIL, password: str = GOOD_PASSWORD) -> str:
        """Register and log in; return the token."""
        await self.register(name=name, email=email, password=password)
        return await self.log_in(email, password)

    async def me(self, token: str) -> Any:
        """Return the User that a token stands for."""
        answer = await self.call("GET", "/v1/users/me", token=token)
        assert answer.status == 200, answer
        return answer.json()

    async def opens(self, token: str) -> bool:
        """Tell whether a token is taken. Where it is not, the answer is the one for every such token."""
        answer = await self.call("GET", "/v1/sessions/current", token=token)
        assert answer.outcome in {(200, ""), (401, "invalid-token")}, answer
        return answer.status == 200

    async def sessions(self, token: str) -> list[Any]:
        """Return the sessions that a token's user sees."""
        answer = await self.call("GET", "/v1/sessions", token=token)
        assert answer.status == 200, answer
        content = answer.json()
        assert set(content) == {"sessions"}
        return list(content["sessions"])


@asynccontextmanager
async def serving(
    accounts: AccountRepository,
    *,
    receipts: Receipts | None = None,
    clock: Clock | None = None,
    events: EventPublisher | None = None,
    hasher: PasswordHasher | None = None,
    common_passwords: CommonPasswords | None = None,
    session_rules: SessionRules | None = None,
    limiter: RateLimiter | None = None,
    mailer: Mailer | None = None,
    deferred: Deferred | None = None,
    pace: Pace | None = None,
    mode: RegistrationMode = RegistrationMode.OPEN,
    grace: timedelta = timedelta(0),
    settings: Settings = SETTINGS,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    send_buffer: int | None = None,
    shutdown_timeout: float = 0.1,
    watching: Watching | None = None,
) -> AsyncGenerator[Api]:
    """Serve the application on a store, as `pickguard serve` does. `tls` holds the server's and the client's side."""
    path = settings.service_credentials
    async with cheap_hasher(wait_budget=timedelta(seconds=30)) as cheap:
        services = build_services(
            accounts=accounts,
            receipts=receipts,
            hasher=hasher or cheap,
            clock=clock or FakeClock(),
            events=events or RecordedEvents(),
            common_passwords=common_passwords or NoCommonPasswords(),
            session_rules=session_rules,
            limiter=Unlimited() if limiter is None else limiter,
            mailer=mailer,
            deferred=deferred,
            pace=pace,
            service_credentials=None if path is None else ServiceCredentialFile(path),
            registration_mode=mode,
            deletion_grace=grace,
        )
        mail = settings.mail if mailer is None else "console:"
        settings = attrs.evolve(settings, registration=mode.value, no_tls=tls is None, mail=mail, deletion_grace=grace)
        async with serving_services(
            services, settings=settings, tls=tls, send_buffer=send_buffer, shutdown_timeout=shutdown_timeout, watching=watching
        ) as api:
            yield api


@asynccontextmanager
async def serving_services(
    services: Services,
    *,
    settings: Settings = SETTINGS,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    send_buffer: int | None = None,
    shutdown_timeout: float = 0.1,
    watching: Watching | None = None,
) -> AsyncGenerator[Api]:
    """Serve the application with services of one's own."""

    @asynccontextmanager
    async def opened(_: Settings) -> AsyncGenerator[Services]:
        yield services

    loop = asyncio.get_running_loop()
    app = create_app(settings, services=opened, watching=watching)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        handler = runner.server
        assert handler is not None
        express = Express(runner.app)
        with socket.socket() as listener:
            if send_buffer is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            port = listener.getsockname()[1]
            acceptor = Acceptor(
                listener,
                lambda: Connection(handler, loop=loop, express=express, answered=watching.answered if watching else None),
                tls=tls[0] if tls else None,
                most=settings.max_connections,
            )
            acceptor.open()
            try:
                client_side = tls[1] if tls else None
                connector = TCPConnector(limit=0, ssl=client_side if client_side is not None else True)
                base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
                async with ClientSession(
                    base, connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False
                ) as session:
                    yield Api(port=port, session=session, tls=client_side, settings=settings)
            finally:
                acceptor.close()
                acceptor.give_up()
    finally:
        await runner.cleanup()
