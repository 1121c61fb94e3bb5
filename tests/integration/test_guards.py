"""What guards other applications: the middleware for aiohttp and for ASGI, in process and over HTTP."""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import attrs
import httpx
import pytest
from aiohttp import WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pickguard import InvalidToken, Services, Settings, StoreUnavailable, Unavailable
from pickguard.adapters.engine import Engine
from pickguard.adapters.files.service_credentials import ServiceCredentialFile
from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.aiohttp import (
    PRINCIPAL,
    Authenticator,
    InProcess,
    OverHttp,
    Principal,
    authentication,
    login_optional,
    login_required,
    public,
)
from pickguard.asgi import AuthenticationMiddleware
from pickguard.client import PickguardClient, RetryRules
from pickguard.domain.model.service_credentials import ServiceCredential, ServiceSecret
from pickguard.entrypoints.bootstrap import build_services
from pickguard.guard import Guard, Refused
from tests.support.fakes import GOOD_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.http import EMAIL, NAME, SETTINGS, serving_services

SECRET = ServiceSecret(secret=bytes(range(33)))
ONE_TRY = RetryRules(tries=1)


@attrs.frozen(kw_only=True)
class Stage:
    """An authenticator, and the use cases behind it."""

    authenticator: Authenticator
    services: Services
    knows_sessions: bool

    async def sign_up(self) -> str:
        await self.services.registration.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD)
        logged_in = await self.services.authentication.log_in(email=EMAIL, password=GOOD_PASSWORD)
        return logged_in.token.reveal()


@pytest.fixture(params=["in process", "over HTTP", "by introspection"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncGenerator[Stage]:
    """Each way to find out whose a token is."""
    path = tmp_path / "services"
    path.write_text(ServiceCredential(name="shop", digest=SECRET.digest).line())
    async with AsyncExitStack() as stack:
        services = build_services(
            accounts=MemoryAccounts(),
            hasher=await stack.enter_async_context(cheap_hasher()),
            clock=clock,
            events=RecordedEvents(),
            common_passwords=NoCommonPasswords(),
            service_credentials=ServiceCredentialFile(path),
        )
        authenticator: Authenticator = InProcess(services)
        if request.param != "in process":
            settings = attrs.evolve(SETTINGS, service_credentials=path)
            api = await stack.enter_async_context(serving_services(services, settings=settings))
            secret = SECRET.reveal() if request.param == "by introspection" else None
            client = PickguardClient(f"http://127.0.0.1:{api.port}", service_secret=secret, retries=ONE_TRY)
            authenticator = await stack.enter_async_context(OverHttp(client))
        yield Stage(authenticator=authenticator, services=services, knows_sessions=request.param != "over HTTP")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def shown(principal: Principal | None) -> dict[str, Any]:
    return {} if principal is None else attrs.asdict(principal)


# aiohttp


async def show(request: web.Request) -> web.Response:
    return web.json_response(shown(request.get(PRINCIPAL)), dumps=lambda content: json.dumps(content, default=str))


class View(web.View):
    @login_required
    async def get(self) -> web.StreamResponse:
        return await show(self.request)

    @login_optional
    async def post(self) -> web.StreamResponse:
        return await show(self.request)


@public
class OpenView(web.View):
    async def get(self) -> web.StreamResponse:
        return await show(self.request)


class ClosedView(OpenView):
    """Made from one that is marked, and not marked itself."""


class PartlyOpenView(web.View):
    @public
    async def get(self) -> web.StreamResponse:
        return await show(self.request)

    async def delete(self) -> web.StreamResponse:
        return await show(self.request)


@public
class GuardedView(web.View):
    async def get(self) -> web.StreamResponse:
        return await show(self.request)

    @login_required
    async def post(self) -> web.StreamResponse:
        return await show(self.request)


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request[PRINCIPAL].name)
    await socket.close()
    return socket


@asynccontextmanager
async def aiohttp_app(
    authenticator: Authenticator, *, protect_all: bool = True, within: bool = False
) -> AsyncGenerator[TestClient[web.Request, web.Application]]:
    app = web.Application(middlewares=[authentication(authenticator, realm="shop", protect_all=protect_all)])
    app.add_routes(
        [
            web.get("/plain", show),
            web.get("/public", public(show_publicly)),
            web.get("/required", login_required(show)),
            web.get("/optional", login_optional(show)),
            web.view("/view", View),
            web.view("/open-view", OpenView),
            web.view("/closed-view", ClosedView),
            web.view("/partly-open-view", PartlyOpenView),
            web.view("/guarded-view", GuardedView),
            web.get("/socket", websocket),
        ]
    )
    if within:
        outer = web.Application()
        outer.add_subapp("/sub", app)
        app = outer
    async with TestClient(TestServer(app)) as client:
        yield client


async def show_publicly(request: web.Request) -> web.Response:
    return await show(request)


async def ask(
    client: TestClient[web.Request, web.Application], path: str, headers: Any = None, method: str = "GET"
) -> tuple[int, Any]:
    async with client.request(method, path, headers=headers) as response:
        body = await response.read()
        if response.status >= 400 and response.status not in {404, 405}:
            check_refusal(response.status, response.headers, body if method != "HEAD" else None)
        return response.status, json.loads(body) if body and response.status == 200 else None


def check_refusal(status: int, headers: Any, body: bytes | None) -> None:
    """Assert the form of a refusal."""
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Cache-Control"] == "no-store"
    if body is not None:
        content = json.loads(body)
        assert set(content) == {"type", "title", "status", "detail"}
        assert content["type"] == "about:blank"
        assert content["status"] == status
    if status == 401:
        assert headers["WWW-Authenticate"].startswith('Bearer realm="shop"')
    if status == 503:
        assert int(headers["Retry-After"]) >= 1


async def test_a_request_is_whose_its_token_is(stage: Stage) -> None:
    token = await stage.sign_up()
    core = await stage.services.authentication.authenticate(token)
    async with aiohttp_app(stage.authenticator) as client:
        for path in ("/plain", "/required", "/optional", "/view"):
            status, found = await ask(client, path, bearer(token))
            assert status == 200
            assert {**found, "session": None} == {
                "user_id": str(core.user.id),
                "name": NAME,
                "email": EMAIL,
                "email_verified": False,
                "session": None,
            }
            assert (found["session"] is not None) == stage.knows_sessions
            if found["session"] is not None:
                assert found["session"]["id"] == str(core.session.id)
        assert await ask(client, "/public", bearer(token)) == (200, {})
        async with client.ws_connect("/socket", headers=bearer(token)) as socket:
            assert await socket.receive_str() == NAME


async def test_every_way_to_ask_knows_the_same(stage: Stage) -> None:
    token = await stage.sign_up()
    mine = await InProcess(stage.services).authenticate(token)
    theirs = await stage.authenticator.authenticate(token)
    assert attrs.evolve(theirs, session=None) == attrs.evolve(mine, session=None)
    if theirs.session is not None and mine.session is not None:
        assert theirs.session.id == mine.session.id
        assert theirs.session.authenticated_at == mine.session.authenticated_at.replace(
            microsecond=theirs.session.authenticated_at.microsecond
        )


HOSTILE = {
    "garbage": "Bearer x",
    "a long one": "Bearer " + "x" * 7000,
    "an emoji": "Bearer \U0001f600",
    "two words": "Bearer a b",
    "a comma": "Bearer a,b",
    "a query": "Bearer ?access_token=x",
    "a path": "Bearer ../../v1/users/me",
    "a secret of a service": f"Bearer {SECRET.reveal()}",
}
NONE = {"no header": None, "no token": "Bearer ", "another scheme": "Basic eDp5", "no scheme": "pg_x", "empty": ""}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
async def test_what_is_no_token_is_refused(stage: Stage, header: str) -> None:
    async with aiohttp_app(stage.authenticator) as client:
        for path in ("/plain", "/required", "/optional", "/view"):
            async with client.get(path, headers={"Authorization": header}) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == 'Bearer realm="shop", error="invalid_token"'
                assert "x" * 7000 not in await response.text()
        assert (await ask(client, "/public", {"Authorization": header}))[0] == 200


@pytest.mark.parametrize("header", NONE.values(), ids=NONE)
async def test_a_route_needs_a_token_unless_it_is_marked(stage: Stage, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with aiohttp_app(stage.authenticator) as client:
        closed = ("/plain", "/required", "/view", "/closed-view", "/socket")
        for path, method in (*((path, "GET") for path in closed), ("/plain", "HEAD")):
            async with client.request(method, path, headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == 'Bearer realm="shop"'
        for path in ("/public", "/optional", "/open-view"):
            assert await ask(client, path, headers) == (200, {})
        assert (await ask(client, "/nowhere", headers))[0] == 404
        assert (await ask(client, "/plain", headers, "DELETE"))[0] == 405
        with pytest.raises(WSServerHandshakeError):
            await client.ws_connect("/socket", headers=headers)


async def test_a_method_of_a_view_is_marked_by_itself(stage: Stage) -> None:
    token = await stage.sign_up()
    async with aiohttp_app(stage.authenticator) as client:
        assert await ask(client, "/view", None, "POST") == (200, {})
        assert (await ask(client, "/view", bearer("x"), "POST"))[0] == 401
        assert (await ask(client, "/view", bearer(token), "POST"))[1]["name"] == NAME
        assert await ask(client, "/partly-open-view", bearer("x")) == (200, {})
        for method, path in (("DELETE", "/partly-open-view"), ("PUT", "/partly-open-view"), ("POST", "/guarded-view")):
            assert (await ask(client, path, None, method))[0] == 401
        assert await ask(client, "/guarded-view") == (200, {})


async def test_with_protection_on_demand_only_marked_handlers_look_at_tokens(stage: Stage) -> None:
    token = await stage.sign_up()
    async with aiohttp_app(stage.authenticator, protect_all=False) as client:
        assert await ask(client, "/plain", bearer(token)) == (200, {})
        assert await ask(client, "/plain", bearer("x")) == (200, {})
        for method, path in (("GET", "/required"), ("GET", "/view")):
            assert (await ask(client, path, None, method))[0] == 401
            assert (await ask(client, path, bearer("x"), method))[0] == 401
            assert (await ask(client, path, bearer(token), method))[1]["name"] == NAME
        for method, path in (("GET", "/optional"), ("POST", "/view")):
            assert await ask(client, path, None, method) == (200, {})
            assert (await ask(client, path, bearer("x"), method))[0] == 401
            assert (await ask(client, path, bearer(token), method))[1]["name"] == NAME


async def test_a_mounted_application_guards_itself(stage: Stage) -> None:
    token = await stage.sign_up()
    async with aiohttp_app(stage.authenticator, within=True) as client:
        assert (await ask(client, "/sub/plain"))[0] == 401
        assert (await ask(client, "/sub/plain", bearer(token)))[0] == 200
        assert (await ask(client, "/sub/public"))[0] == 200


@pytest.mark.parametrize("twice", [("a", "a"), ("a", "b")], ids=["same", "different"])
async def test_two_headers_are_none(stage: Stage, twice: tuple[str, str]) -> None:
    token = await stage.sign_up()
    values = [f"Bearer {token if each == 'a' else 'x'}" for each in twice]
    async with aiohttp_app(stage.authenticator) as client:
        headers = [("Authorization", value) for value in values]
        assert (await ask(client, "/plain", headers))[0] == 400
        assert (await ask(client, "/optional", headers))[0] == 400


async def test_a_revoked_token_is_refused_by_the_next_request(stage: Stage) -> None:
    token = await stage.sign_up()
    async with aiohttp_app(stage.authenticator) as client:
        for _ in range(3):
            assert (await ask(client, "/plain", bearer(token)))[0] == 200
        await stage.services.sessions.log_out(token)
        assert (await ask(client, "/plain", bearer(token)))[0] == 401
        assert (await ask(client, "/optional", bearer(token)))[0] == 401


async def test_a_session_that_has_expired_is_refused(stage: Stage, clock: FakeClock) -> None:
    token = await stage.sign_up()
    clock.advance(timedelta(days=14))
    with pytest.raises(InvalidToken):
        await stage.authenticator.authenticate(token)


class Gone:
    """An authenticator that cannot say."""

    async def authenticate(self, token: str) -> Principal:
        del token
        raise StoreUnavailable("gone", retry_after=timedelta(seconds=2.5))


async def test_nobody_is_let_in_while_nobody_can_say_who_they_are(caplog: pytest.LogCaptureFixture) -> None:
    async with aiohttp_app(Gone()) as client:
        for path in ("/plain", "/required", "/optional", "/view"):
            async with client.get(path, headers=bearer("pg_x")) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "3"
        assert (await ask(client, "/public", bearer("pg_x")))[0] == 200
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, "it is said once in a while"
    assert "pg_x" not in caplog.text


@pytest.mark.parametrize("what", ["a dead port", "another server", "an unknown secret"])
async def test_a_service_that_cannot_be_asked_lets_nobody_in(what: str, stage: Stage) -> None:
    token = await stage.sign_up()

    async def teapot(_: web.Request) -> web.Response:
        return web.Response(status=404, text="<html>")

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", teapot)
    async with TestServer(other) as server, serving_services(stage.services) as api:
        url = {"a dead port": "http://127.0.0.1:1", "another server": str(server.make_url("/"))}.get(what)
        secret = ServiceSecret(secret=bytes(33)).reveal() if what == "an unknown secret" else None
        client = PickguardClient(url or f"http://127.0.0.1:{api.port}", service_secret=secret, retries=ONE_TRY)
        async with OverHttp(client) as authenticator, aiohttp_app(authenticator) as guarded:
            assert (await ask(guarded, "/plain", bearer(token)))[0] == 503
            assert (await ask(guarded, "/optional", bearer(token)))[0] == 503
        with pytest.raises(Unavailable):
            async with OverHttp(client) as authenticator:
                await authenticator.authenticate(token)


async def test_a_decorator_without_the_middleware_lets_nobody_in() -> None:
    app = web.Application()
    app.router.add_get("/", login_required(show))
    async with TestClient(TestServer(app)) as client, client.get("/", headers=bearer("x")) as response:
        assert response.status == 500


async def test_the_innermost_guard_is_the_one_that_counts(stage: Stage) -> None:
    class Everybody:
        async def authenticate(self, token: str) -> Principal:
            return Principal(user_id=token, name="Eve", email="eve@example.com", email_verified=True)

    inner = web.Application(middlewares=[authentication(stage.authenticator)])
    inner.router.add_get("/", show)
    outer = web.Application(middlewares=[authentication(Everybody())])
    outer.add_subapp("/inner/", inner)
    token = await stage.sign_up()
    async with TestClient(TestServer(outer)) as client:
        assert (await ask_plainly(client, "/inner/", bearer("x")))[0] == 401
        assert (await ask_plainly(client, "/inner/", bearer(token)))[1]["name"] == NAME


async def test_what_somebody_else_has_said_of_a_request_counts_for_nothing(stage: Stage) -> None:
    @web.middleware
    async def believe(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[PRINCIPAL] = Principal(user_id="1", name="Eve", email="eve@example.com", email_verified=True)
        return await handler(request)

    async def name(request: web.Request) -> web.StreamResponse:
        found = request.get(PRINCIPAL)
        return web.json_response(None if found is None else found.name)

    app = web.Application(middlewares=[believe, authentication(stage.authenticator)])
    app.router.add_get("/", login_optional(name))
    token = await stage.sign_up()
    async with TestClient(TestServer(app)) as client:
        assert await ask_plainly(client, "/", {}) == (200, None)
        assert await ask_plainly(client, "/", bearer(token)) == (200, NAME)


async def ask_plainly(client: TestClient[web.Request, web.Application], path: str, headers: dict[str, str]) -> tuple[int, Any]:
    async with client.get(path, headers=headers) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("realm", ['"', "\\", "\n", "\u00e9"])
def test_a_realm_that_would_break_the_header_is_refused(realm: str) -> None:
    with pytest.raises(ValueError, match="a realm is ASCII"):
        Guard(Gone(), realm=realm)


@pytest.mark.parametrize("text", ["a b", "a\x00", "\u00e9", "a=b", "=", "a" * 1025, "a\tb", "a,b"])
async def test_what_cannot_be_a_token_is_refused_whatever_the_authenticator_would_say(text: str) -> None:
    class Credulous:
        """An authenticator that lets in whoever asks."""

        async def authenticate(self, token: str) -> Principal:
            return Principal(user_id=token, name=NAME, email=EMAIL, email_verified=True)

    guard = Guard(Credulous())
    assert await guard.identify([f"Bearer {'a' * 1024}=="], required=True)
    with pytest.raises(Refused) as refused:
        await guard.identify([f"Bearer {text}"], required=True)
    assert refused.value.refusal.status == 401


async def test_nobody_is_told_to_try_again_in_no_time() -> None:
    class Hasty:
        """An authenticator that cannot say, for no time."""

        async def authenticate(self, token: str) -> Principal:
            raise StoreUnavailable(token, retry_after=timedelta(0))

    with pytest.raises(Refused) as refused:
        await Guard(Hasty()).identify(["Bearer x"], required=True)
    assert refused.value.refusal.headers == (("Retry-After", "1"),)


async def test_when_to_try_again_is_what_the_service_says() -> None:
    async def closed(_: web.Request) -> web.Response:
        content = {"type": "/problems/store-unavailable", "title": "T", "status": 503, "detail": "D"}
        headers = {"Content-Type": "application/problem+json", "Retry-After": "7"}
        return web.Response(status=503, body=json.dumps(content).encode(), headers=headers)

    app = web.Application()
    app.router.add_get("/v1/users/me", closed)
    async with TestServer(app) as server, OverHttp(PickguardClient(str(server.make_url("/")), retries=ONE_TRY)) as over_http:
        with pytest.raises(Unavailable) as unavailable:
            await over_http.authenticate("pg_x")
    assert unavailable.value.retry_after == timedelta(seconds=7)


async def test_the_log_says_again_why_when_time_has_passed(caplog: pytest.LogCaptureFixture) -> None:
    times = iter((100.0, 105.0, 110.0, 111.0))
    guard = Guard(Gone(), clock=lambda: next(times))
    for _ in range(4):
        with pytest.raises(Refused):
            await guard.identify(["Bearer x"], required=True)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("engine", ["valkey"], indirect=True)
async def test_in_process_it_opens_the_store_that_settings_name(engine: Engine) -> None:
    settings = Settings(store=engine.url)
    authenticator = InProcess(settings)
    with pytest.raises(RuntimeError, match="is not open"):
        await authenticator.authenticate("x")
    async with authenticator, cheap_hasher() as hasher:
        patience = timedelta(seconds=20)
        async with open_client(engine.url, connections=2, connect_timeout=patience, command_timeout=patience) as client:
            services = build_services(accounts=RedisAccounts(client), hasher=hasher, common_passwords=NoCommonPasswords())
            token = await Stage(authenticator=authenticator, services=services, knows_sessions=True).sign_up()
            async with aiohttp_app(authenticator) as guarded:
                assert (await ask(guarded, "/plain", bearer(token)))[1]["email"] == EMAIL
                await services.sessions.log_out(token)
                assert (await ask(guarded, "/plain", bearer(token)))[0] == 401
    with pytest.raises(RuntimeError, match="is not open"):
        await authenticator.authenticate("x")


async def test_in_process_it_opens_nothing_but_the_store(tmp_path: Path) -> None:
    credentials, mails = tmp_path / "services", tmp_path / "mails"
    credentials.write_text(ServiceCredential(name="shop", digest=SECRET.digest).line())
    settings = Settings(
        store="memory:",
        mail=f"dir:{mails}",
        registration="private",
        service_credentials=credentials,
        breach_check="https://127.0.0.1:1/range/",
    )
    credentials.unlink()
    async with InProcess(settings) as authenticator:
        with pytest.raises(InvalidToken):
            await authenticator.authenticate("x")
    assert not mails.exists()


# ASGI


async def show_state(request: StarletteRequest) -> JSONResponse:
    found = shown(request.state.principal)
    return JSONResponse({"name": found.get("name"), "user": request.user.identity, "auth": list(request.auth.scopes)})


@requires("authenticated")
async def starlettes_own(request: StarletteRequest) -> PlainTextResponse:
    return PlainTextResponse(request.user.display_name)


async def no_state(request: StarletteRequest) -> JSONResponse:
    return JSONResponse({"principal": request.state.principal})


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.state.principal.name)
    await socket.close()


def starlette_app(authenticator: Authenticator, *, required: bool = True) -> Starlette:
    return Starlette(
        routes=[
            Route("/state", show_state),
            Route("/own", starlettes_own),
            Route("/public", no_state),
            WebSocketRoute("/socket", echo),
        ],
        middleware=[
            Middleware(
                AuthenticationMiddleware,
                authenticator=authenticator,
                public={"/public"},
                required=required,
                realm="shop",
            )
        ],
    )


@asynccontextmanager
async def asked(app: Any) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop.example") as client:
        yield client


async def test_starlette_knows_whose_a_request_is(stage: Stage) -> None:
    token = await stage.sign_up()
    user = (await stage.services.authentication.authenticate(token)).user
    async with asked(starlette_app(stage.authenticator)) as client:
        found = await client.get("/state", headers=bearer(token))
        assert found.json() == {"name": NAME, "user": str(user.id), "auth": ["authenticated"]}
        assert (await client.get("/own", headers=bearer(token))).text == NAME
        assert (await client.get("/public", headers=bearer("x"))).json() == {"principal": None}
        for header, challenge in ((None, ""), ("Bearer x", ', error="invalid_token"')):
            refused = await client.get("/state", headers={} if header is None else {"Authorization": header})
            check_refusal(401, refused.headers, refused.content)
            assert refused.headers["WWW-Authenticate"] == f'Bearer realm="shop"{challenge}'
        head = await client.head("/state")
        assert (head.status_code, head.content) == (401, b"")
        twice = await client.get("/state", headers=[("Authorization", f"Bearer {token}")] * 2)
        check_refusal(400, twice.headers, twice.content)
        await stage.services.sessions.log_out(token)
        assert (await client.get("/state", headers=bearer(token))).status_code == 401


@pytest.mark.parametrize("path", ["/public/", "/PUBLIC", "//public", "/public;x", "/public%2f", "/%2e/public"])
async def test_only_the_very_path_is_public(path: str) -> None:
    async with asked(starlette_app(Gone())) as client:
        assert (await client.get(path)).status_code == 401


async def test_a_public_path_is_one_of_the_application_wherever_it_is_mounted() -> None:
    app = Starlette(routes=[Mount("/api", app=starlette_app(Gone()))])
    async with asked(app) as client:
        assert (await client.get("/api/public")).json() == {"principal": None}
        assert (await client.get("/api/state")).status_code == 401


async def test_where_none_is_required_the_application_decides(stage: Stage) -> None:
    token = await stage.sign_up()
    async with asked(starlette_app(stage.authenticator, required=False)) as client:
        assert (await client.get("/state")).json() == {"name": None, "user": "", "auth": []}
        assert (await client.get("/own")).status_code == 403
        assert (await client.get("/own", headers=bearer(token))).text == NAME
        assert (await client.get("/state", headers=bearer("x"))).status_code == 401


async def test_asgi_lets_nobody_in_while_nobody_can_say_who_they_are() -> None:
    async with asked(starlette_app(Gone())) as client:
        refused = await client.get("/state", headers=bearer("pg_x"))
        check_refusal(503, refused.headers, refused.content)


class Known:
    """An authenticator that knows one token."""

    async def authenticate(self, token: str) -> Principal:
        if token != "known":
            raise InvalidToken
        return Principal(user_id="1", name=NAME, email=EMAIL, email_verified=True)


async def talk(app: Any, scope: dict[str, Any], *received: str) -> list[dict[str, Any]]:
    """Call an ASGI application as a server does; return what it sends."""
    sent: list[dict[str, Any]] = []
    messages: Iterator[str] = iter(received)

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def websocket_scope(token: str | None, *extensions: str) -> dict[str, Any]:
    headers: Sequence[tuple[bytes, bytes]] = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    return {
        "type": "websocket",
        "path": "/socket",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
        "extensions": {each: {} for each in extensions},
    }


DENIAL = "websocket.http.response"


async def test_a_websocket_is_refused_before_it_is_accepted() -> None:
    app = starlette_app(Known())
    sent = await talk(app, websocket_scope("known"), "websocket.connect")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[1]["text"] == NAME
    start, body = await talk(app, websocket_scope(None, DENIAL), "websocket.connect")
    assert (start["type"], start["status"]) == (f"{DENIAL}.start", 401)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert headers["www-authenticate"] == 'Bearer realm="shop"'
    assert (body["type"], len(body["body"])) == (f"{DENIAL}.body", int(headers["content-length"]))


@pytest.mark.parametrize(("authenticator", "code"), [(Known(), 1008), (Gone(), 1013)], ids=["unknown", "unavailable"])
async def test_a_websocket_is_closed_where_the_server_cannot_answer(authenticator: Authenticator, code: int) -> None:
    scope = websocket_scope("x")
    for each in (scope, {**scope, "extensions": None}):
        (closed,) = await talk(starlette_app(authenticator), each, "websocket.connect")
        assert (closed["type"], closed["code"]) == ("websocket.close", code)


async def test_a_websocket_is_not_closed_before_somebody_has_asked_for_it() -> None:
    order: list[str] = []

    async def receive() -> dict[str, Any]:
        order.append("websocket.connect")
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        order.append(message["type"])

    await starlette_app(Known())(websocket_scope("x"), receive, send)
    assert order == ["websocket.connect", "websocket.close"]


def http_scope(method: str, path: str, *headers: tuple[bytes, bytes], root_path: str = "") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": root_path, "query_string": b"", "headers": headers}


async def nothing(scope: MutableMapping[str, Any], receive: object, send: Any) -> None:
    """Be an application that says only that it was reached, and by whom."""
    del receive
    await send({"type": "reached", "user": scope["user"].display_name if "user" in scope else ""})


async def test_who_asks_by_head_is_refused_without_a_body() -> None:
    app = AuthenticationMiddleware(nothing, authenticator=Known())
    (start, body), (_, full) = [await talk(app, http_scope(method, "/")) for method in ("HEAD", "GET")]
    assert (start["status"], body["body"]) == (401, b"")
    assert (b"content-length", str(len(full["body"])).encode()) in start["headers"]


async def test_a_header_is_found_in_whatever_case_a_server_leaves_it() -> None:
    app = AuthenticationMiddleware(nothing, authenticator=Known())
    (reached,) = await talk(app, http_scope("GET", "/", (b"Authorization", b"Bearer known")))
    assert reached["user"] == NAME


@pytest.mark.parametrize(("path", "is_public"), [("/apple", True), ("/app/apple", True), ("/app/app/apple", False)])
async def test_a_root_path_is_a_whole_part_of_the_path(path: str, *, is_public: bool) -> None:
    app = AuthenticationMiddleware(nothing, authenticator=Known(), public={"/apple"})
    first = (await talk(app, http_scope("GET", path, root_path="/app")))[0]
    assert (first["type"] == "reached") is is_public


async def test_the_lifespan_of_the_application_is_its_own() -> None:
    lived: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, str]]:
        lived.append("began")
        yield {"of": "the lifespan"}
        lived.append("ended")

    app = Starlette(lifespan=lifespan, middleware=[Middleware(AuthenticationMiddleware, authenticator=Known(), required=True)])
    state: dict[str, str] = {}
    sent = await talk(app, {"type": "lifespan", "state": state}, "lifespan.startup", "lifespan.shutdown")
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert lived == ["began", "ended"]
    assert state == {"of": "the lifespan"}


async def test_what_stood_in_the_state_of_a_request_stays_there() -> None:
    scope = {"type": "http", "path": "/", "headers": [(b"authorization", b"Bearer known")], "state": {"of": "the lifespan"}}

    async def app(scope: Any, _: object, __: object) -> None:
        assert scope["state"] == {"of": "the lifespan", "principal": scope["user"]}
        assert scope["user"].display_name == NAME

    assert await talk(AuthenticationMiddleware(app, authenticator=Known()), scope) == []


def test_one_path_is_no_collection_of_paths() -> None:
    with pytest.raises(TypeError, match="collection"):
        AuthenticationMiddleware(starlette_app(Known()), authenticator=Known(), public="/public")


def current_principal(request: Request) -> Principal:
    found = request.state.principal
    if found is None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    assert isinstance(found, Principal)
    return found


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


async def test_fastapi_depends_on_whose_a_request_is(stage: Stage) -> None:
    app = FastAPI()
    app.add_middleware(AuthenticationMiddleware, authenticator=stage.authenticator, required=False)

    @app.get("/me")
    async def me(principal: CurrentPrincipal) -> dict[str, str]:
        return {"name": principal.name}

    token = await stage.sign_up()
    async with asked(app) as client:
        assert (await client.get("/me", headers=bearer(token))).json() == {"name": NAME}
        assert (await client.get("/me")).status_code == 401
        assert (await client.get("/me", headers=bearer("x"))).status_code == 401
        await stage.services.sessions.log_out(token)
        assert (await client.get("/me", headers=bearer(token))).status_code == 401
