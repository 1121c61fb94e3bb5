"""The HTTP API on the in-memory store; over TLS; and where what it stands on fails."""

import asyncio
import contextlib
import json
import logging
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from hashlib import pbkdf2_hmac
from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest

from pickguard.adapters.foreign_hashes import ForeignPasswordHashes
from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import AddressUndecided, Contended, HashingOverloaded, OutcomeUnknown, StoreUnavailable
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import User
from pickguard.entrypoints.bootstrap import build_services
from pickguard.entrypoints.http import acceptor
from pickguard.entrypoints.tls import development_certificate, server_context
from pickguard.ports.accounts import AccountRepository, Snapshot
from pickguard.ports.hashing import Purpose
from pickguard.ports.limits import RateLimiter
from pickguard.ports.receipts import Receipts
from tests.contracts.http_api import ME, HttpApiContract
from tests.contracts.http_mail import HttpMailContract
from tests.contracts.http_rights import GRACE, HttpRightsContract, Rights
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, NoCommonPasswords, cheap_hasher
from tests.support.http import EMAIL, NAME, PATIENCE, SETTINGS, Api, serving, serving_services

REGISTRATION = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}


class TestHttpApi(HttpApiContract):
    @pytest.fixture
    def accounts(self) -> AccountRepository:
        return MemoryAccounts()

    @pytest.fixture
    def receipts(self) -> Receipts:
        return MemoryReceipts()


class TestHttpMail(HttpMailContract):
    @pytest.fixture
    def accounts(self) -> AccountRepository:
        return MemoryAccounts()

    @pytest.fixture
    def receipts(self) -> Receipts:
        return MemoryReceipts()

    @pytest.fixture
    def limiter(self) -> RateLimiter:
        return MemoryRateLimiter()


class TestHttpRights(HttpRightsContract):
    @pytest.fixture
    def accounts(self, now_clock: FakeClock) -> AccountRepository:
        return MemoryAccounts(now=now_clock.now)

    @pytest.fixture
    def receipts(self) -> Receipts:
        return MemoryReceipts()

    @pytest.fixture
    def limiter(self) -> RateLimiter:
        return MemoryRateLimiter()

    async def test_when_the_time_is_over_the_address_is_free(self, rights: Rights) -> None:
        await rights.deleted()
        rights.clock.advance(GRACE - timedelta(milliseconds=1))
        assert (await rights.api.call("POST", "/v1/users", REGISTRATION)).outcome == (409, "email-taken")
        rights.clock.advance(timedelta(milliseconds=1))
        await rights.api.register()


# Without mail


@pytest.mark.parametrize("path", ["", "/confirm", "/decline"])
async def test_without_mail_there_is_nothing_to_verify(api: Api, path: str) -> None:
    token = await api.sign_up()
    for answer in (
        await api.call("POST", f"/v1/email-verifications{path}", {"token": "x"}, token=token),
        await api.call("POST", f"/v1/email-verifications{path}", data=b"", headers={"Content-Type": "text/plain"}),
    ):
        assert answer.outcome == (404, "not-found")
    assert "pending_email" not in await api.me(token)


@pytest.mark.parametrize("path", ["", "/confirm"])
async def test_without_mail_there_are_no_resets(api: Api, path: str) -> None:
    assert (await api.call("POST", f"/v1/password-resets{path}", {"email": EMAIL})).outcome == (404, "not-found")


# What the store and the hasher do to the answers


class BrokenAccounts(MemoryAccounts):
    """Works until it is told what to raise, or whom to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def get(self, user_id: UserId) -> Snapshot | None:
        await self._fail()
        return await super().get(user_id)

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        await self._fail()
        return await super().read_session(user_id, digest)

    async def add(self, account: Account, *, operation: bytes) -> None:
        await self._fail()
        await super().add(account, operation=operation)

    async def check_writable(self) -> None:
        await self._fail()

    async def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.gate is not None:
            await self.gate.wait()


@pytest.fixture
def broken() -> BrokenAccounts:
    return BrokenAccounts()


@pytest.fixture
async def api(broken: BrokenAccounts, clock: FakeClock) -> AsyncGenerator[Api]:
    settings = attrs.evolve(SETTINGS, access_log=True)
    async with serving(broken, clock=clock, settings=settings) as api:
        yield api


@pytest.mark.requirement(75, 78, 80)
async def test_a_fault_of_the_service_is_told_without_detail_and_logged_without_secrets(
    broken: BrokenAccounts, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = await api.sign_up()
    broken.failure = RuntimeError("something nobody thought of")
    answers = [
        await api.call("GET", ME, token=token),
        await api.call("GET", f"{ME}?access_token={token}", token=token),
        await api.call("DELETE", f"/v1/sessions/{token}", token=token),
        await api.call("PATCH", ME, {"password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}, token=token),
        await api.call("POST", "/v1/users", {**REGISTRATION, "email": "grace@example.com"}),
        await api.call("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token),
        await api.call("GET", "/readyz"),
    ]
    for answer in answers:
        assert answer.outcome == (500, "internal-error")
        for telling in ("Traceback", "RuntimeError", "nobody thought", ".py", token, GOOD_PASSWORD, EMAIL):
            assert telling.encode() not in answer.body
    formatter = logging.Formatter("%(message)s")
    log = "\n".join(formatter.format(record) for record in caplog.records)
    for secret in (token, GOOD_PASSWORD, OTHER_PASSWORD):
        assert secret not in log
    for answer in answers:
        assert answer.headers["X-Request-ID"] in log
    broken.failure = None
    assert await api.opens(token)


async def test_a_head_request_that_fails_has_no_body(broken: BrokenAccounts, api: Api) -> None:
    broken.failure = RuntimeError("something nobody thought of")
    answer = await api.call("HEAD", "/readyz")
    assert (answer.status, answer.body) == (500, b"")


@pytest.mark.requirement(79)
@pytest.mark.parametrize(
    ("failure", "slug", "unknown"),
    [
        (StoreUnavailable("gone", retry_after=timedelta(seconds=2.5)), "store-unavailable", False),
        (OutcomeUnknown("no answer"), "store-unavailable", True),
        (AddressUndecided("another claim"), "store-unavailable", False),
        (Contended("too many"), "overloaded", False),
        (HashingOverloaded("full", retry_after=timedelta(0)), "overloaded", False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_cannot_be_done_now_says_when_to_try_again(
    broken: BrokenAccounts, api: Api, failure: Exception, slug: str, *, unknown: bool
) -> None:
    token = await api.sign_up()
    broken.failure = failure
    for answer in (
        await api.call("POST", "/v1/users", {**REGISTRATION, "email": "grace@example.com"}),
        await api.call("PATCH", ME, {"name": "Grace"}, token=token),
        await api.call("DELETE", ME, token=token),
    ):
        assert answer.outcome == (503, slug)
        assert re.fullmatch(r"[1-9]\d*", answer.headers["Retry-After"], re.ASCII)
        assert ("unknown" in answer.json()["detail"]) == unknown
    if isinstance(failure, StoreUnavailable):
        assert answer.headers["Retry-After"] == "3"


async def test_a_service_whose_store_is_gone_lives_but_is_not_ready(broken: BrokenAccounts, api: Api) -> None:
    broken.failure = StoreUnavailable("gone")
    assert (await api.call("GET", "/livez")).status == 200
    assert (await api.call("GET", "/readyz")).outcome == (503, "store-unavailable")
    broken.failure = None
    assert (await api.call("GET", "/readyz")).status == 200


async def test_a_request_that_the_store_never_answers_ends_all_the_same(broken: BrokenAccounts, clock: FakeClock) -> None:
    settings = attrs.evolve(SETTINGS, request_timeout=timedelta(milliseconds=100))
    async with serving(broken, clock=clock, settings=settings) as api:
        broken.gate = asyncio.Event()
        read = await api.call("GET", "/readyz")
        write = await api.call("POST", "/v1/users", REGISTRATION)
        assert read.outcome == write.outcome == (503, "store-unavailable")
        assert "unknown" in write.json()["detail"]
        assert "unknown" not in read.json()["detail"]


@pytest.mark.requirement(72)
async def test_a_request_whose_turn_to_hash_would_come_too_late_is_refused_at_once(clock: FakeClock) -> None:
    class Overloaded:
        async def hash(self, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)) -> str:
            del password, purpose, spent
            raise HashingOverloaded("full", retry_after=timedelta(seconds=4))

        async def verify(
            self, password_hash: str | None, password: str, *, purpose: Purpose, spent: timedelta = timedelta(0)
        ) -> bool:
            del password_hash, password, purpose, spent
            raise HashingOverloaded("full", retry_after=timedelta(seconds=4))

        def needs_rehash(self, password_hash: str) -> bool:
            del password_hash
            return False

        can_verify = needs_rehash

    async with serving(MemoryAccounts(), clock=clock, hasher=Overloaded()) as api:
        for answer in (await api.call("POST", "/v1/users", REGISTRATION), await api.try_log_in()):
            assert answer.outcome == (503, "overloaded")
            assert answer.headers["Retry-After"] == "4"


async def test_commonly_used_passwords_are_refused() -> None:
    async with cheap_hasher() as hasher:
        services = build_services(accounts=MemoryAccounts(), hasher=hasher)
        async with serving_services(services) as api:
            for password in ("password1", "PASSWORD1", "qwertyuiop", "12345678", "iloveyou", "letmein123"):
                answer = await api.call("POST", "/v1/users", {**REGISTRATION, "password": password})
                assert answer.faults == [("#/password", "password_too_common")], password
            token = await api.sign_up()
            body = {"password": "trustno1", "current_password": GOOD_PASSWORD}
            assert (await api.call("PATCH", ME, body, token=token)).faults == [("#/password", "password_too_common")]


async def test_whoever_was_imported_logs_in_with_the_password_of_the_other_system() -> None:
    accounts = MemoryAccounts()
    stored = "pbkdf2_sha256$1000$seasalt$" + b64encode(pbkdf2_hmac("sha256", GOOD_PASSWORD.encode(), b"seasalt", 1000)).decode()
    async with cheap_hasher(foreign=ForeignPasswordHashes()) as hasher:
        services = build_services(accounts=accounts, hasher=hasher, common_passwords=NoCommonPasswords())
        user = await services.imports.add(name=NAME, email=EMAIL, password_hash=stored, email_verified=True)
        async with serving_services(services) as api:
            assert (await api.try_log_in(password=OTHER_PASSWORD)).outcome == (401, "invalid-credentials")
            first, second = await api.log_in(), await api.log_in()
            assert (await api.me(first))["email_verified"] is True
            assert len(await api.sessions(second)) == 2
            assert (await api.call("POST", "/v1/users", REGISTRATION)).outcome == (409, "email-taken")
    snapshot = await accounts.get(user.id)
    assert snapshot is not None
    assert snapshot.account.credential.password_hash.startswith("$argon2id$")


# Over TLS


@pytest.fixture
async def secure_api(tmp_path: Path, clock: FakeClock) -> AsyncGenerator[Api]:
    certificate, key = development_certificate(tmp_path / "tls", "127.0.0.1")
    context = ssl.create_default_context(cafile=str(certificate))
    async with serving(MemoryAccounts(), clock=clock, tls=(server_context(certificate, key), context)) as api:
        yield api


@pytest.mark.requirement(47, 48, 50, 70)
async def test_over_tls_every_answer_asks_for_tls_from_now_on(secure_api: Api) -> None:
    # The header itself is looked for in each of these answers, as is its absence without TLS everywhere else.
    api = secure_api
    token = await api.sign_up()
    tag = (await api.call("GET", ME, token=token)).etag
    found = [
        await api.call("GET", ME, token=token, headers={"If-None-Match": tag}),
        await api.call("GET", "/problems/not-found", headers={"Accept": "text/html"}),
        await api.call("GET", ME),
        await api.call("GET", "/nowhere"),
        await api.call("PUT", ME),
        await api.call("PATCH", ME, {}, token=token, headers={"If-Match": '"other"'}),
        await api.call("POST", "/v1/users", data=b"x" * 20_000),
        await api.call("POST", "/v1/users", data=b"{}", headers={"Content-Type": "text/plain"}),
        await api.call("POST", "/v1/users", {}),
        await api.raw(b"POST /v1/users HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"),
        await api.raw(b"GET /nowhere HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"),
        await api.raw(b"this is not HTTP\r\n\r\n"),
        await api.call("DELETE", ME, token=token),
    ]
    assert [answer.status for answer in found] == [304, 200, 401, 404, 405, 412, 413, 415, 422, 417, 417, 400, 204]


@pytest.mark.requirement(53)
async def test_plain_http_at_the_tls_port_is_cut_off_and_others_are_served(secure_api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", secure_api.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    writer.transport.abort()
    assert not answer.startswith(b"HTTP")
    assert (await secure_api.call("GET", "/livez")).status == 200


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_a_client_that_does_not_end_its_tls_handshake_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(acceptor, "TLS_HANDSHAKE_SECONDS", 0.1)
    certificate, key = development_certificate(tmp_path / "tls", "127.0.0.1")
    context = ssl.create_default_context(cafile=str(certificate))
    async with serving(MemoryAccounts(), tls=(server_context(certificate, key), context)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.transport.abort()


@pytest.mark.parametrize("ending", [lambda wire: wire.close(), lambda wire: wire.transport.abort()], ids=["closed", "reset"])
async def test_a_client_that_goes_away_is_no_fault_of_the_service(
    api: Api, caplog: pytest.LogCaptureFixture, ending: Callable[[asyncio.StreamWriter], None]
) -> None:
    fields = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n"
    async with api.wire() as wire:
        await wire.send(b"POST /v1/users HTTP/1.1\r\n" + fields + b"\r\n")
        await wire.reader.readuntil(b"100 Continue\r\n\r\n")  # so the handler waits for the body
        await wire.send(b'{"name":')
        ending(wire.writer)
    for _ in range(20):
        assert (await api.call("GET", "/livez")).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# Behind proxies


@pytest.mark.requirement(54)
async def test_only_a_trusted_proxy_says_where_a_request_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for networks, expected in ((("127.0.0.0/8",), "203.0.113.9"), (("192.0.2.0/24",), "127.0.0.1"), ((), "127.0.0.1")):
        caplog.clear()
        trusted = tuple(ip_network(each) for each in networks)
        settings = attrs.evolve(SETTINGS, trusted_proxies=trusted, access_log=True)
        async with serving(MemoryAccounts(), settings=settings) as api:
            await api.register()
            token = await api.log_in(
                X_Forwarded_For="198.51.100.1, [::ffff:203.0.113.9]:4711",
                Forwarded="for=198.51.100.2",
                X_Real_IP="198.51.100.3",
            )
            assert (await api.sessions(token))[0]["ip"] == expected
            logged = [json.loads(message) for message in caplog.messages if '"route": "/v1/sessions"' in message]
            assert logged[0]["ip"] == expected


async def test_the_lines_of_a_proxys_header_are_one_list() -> None:
    settings = attrs.evolve(SETTINGS, trusted_proxies=(ip_network("127.0.0.1"),))
    async with serving(MemoryAccounts(), settings=settings) as api:
        await api.register()
        body = json.dumps({"email": EMAIL, "password": GOOD_PASSWORD}).encode()
        head = b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        lines = b"X-Forwarded-For: 203.0.113.9\r\nx-forwarded-for: 2001:db8::7\r\n\r\n"
        assert (await api.raw(head + lines + body)).json()["session"]["ip"] == "2001:db8::7"


@pytest.mark.requirement(54)
async def test_a_client_that_names_another_address_in_each_request_stays_the_one_it_is(api: Api) -> None:
    # Were one of them believed, a limit for each address would be none (ASVS 4.1.3, 15.3.4).
    await api.register()
    for number in range(50):
        other = f"203.0.113.{number}"
        named = {"X_Forwarded_For": other, "X_Real_IP": other, "Forwarded": f"for={other}", "X_Client_IP": other}
        assert (await api.try_log_in(**named)).json()["session"]["ip"] == "127.0.0.1"


async def test_tls_at_a_proxy_is_not_taken_for_tls_here(api: Api) -> None:
    # The absence of Strict-Transport-Security is looked for in the answer.
    assert (await api.call("GET", "/livez", headers={"X-Forwarded-Proto": "https", "Forwarded": "proto=https"})).status == 200
