"""Administration over HTTP: what operators can do, that nobody else can, and that it is written down."""

import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import ClientSession
from openapi_spec_validator import OpenAPIV31SpecValidator

from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.domain.model.errors import InvalidCredentials
from pickguard.domain.model.sessions import Client
from pickguard.entrypoints.admin.app import ADMIN_ROUTES
from pickguard.entrypoints.admin.description import ADMIN_OPERATIONS, admin_document, admin_json
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.http.watching import routes_of
from pickguard.entrypoints.settings import Settings
from tests.support.description import Description
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.http import EMAIL, NAME, SETTINGS, Answer, Api, serving_services
from tests.support.operators import OPERATOR, OTHER_OPERATOR, SCRAPER, serving_operators, some_tokens
from tests.support.telemetry import Measured, key, parsed, parsed_openmetrics

USERS = "/admin/v1/users"
USER_MEMBERS = {"id", "name", "email", "email_verified", "pending_email", "disabled", "deletes_at", "created_at", "updated_at"}
SESSION_MEMBERS = {"id", "created_at", "last_used_at", "authenticated_at", "expires_at", "user_agent", "ip"}
NOBODY = str(UUID("01a2143e-4fbb-762e-9e0a-5dd63c0ccf7e"))
THEM = Client(ip="192.0.2.1", user_agent="curl/8.0")


@pytest.fixture
def events() -> RecordedEvents:
    return RecordedEvents()


@pytest.fixture
async def services(events: RecordedEvents) -> AsyncGenerator[Services]:
    clock = FakeClock()
    async with cheap_hasher() as hasher:
        yield build_services(
            accounts=MemoryAccounts(now=clock.now),
            hasher=hasher,
            clock=clock,
            deletion_grace=timedelta(days=1),
            events=events,
            limiter=MemoryRateLimiter(),
            common_passwords=NoCommonPasswords(),
        )


class Office:
    """An operator at work."""

    def __init__(self, api: Api, services: Services) -> None:
        self.api = api
        self.services = services

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        return await self.api.call(method, path, token=OPERATOR, **more)

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    async def register(self, email: str = EMAIL) -> str:
        user = await self.services.registration.register(name=NAME, email=email, password=GOOD_PASSWORD, client=THEM)
        return str(user.id)

    async def log_in(self, email: str = EMAIL) -> str:
        opened = await self.services.authentication.log_in(email=email, password=GOOD_PASSWORD, client=THEM)
        return opened.token.reveal()


@pytest.fixture
async def office(services: Services, tmp_path: Path) -> AsyncGenerator[Office]:
    async with serving_operators(services, some_tokens(tmp_path)) as api:
        yield Office(api, services)


async def test_an_account_is_listed_and_found_by_its_address(office: Office) -> None:
    ids = {await office.register(f"{name}@example.com"): name for name in ("ada", "grace", "alan")}
    await office.log_in("ada@example.com")
    listed = await office.get(USERS)
    assert set(listed) == {"users", "next", "unreadable"}
    assert {each["id"] for each in listed["users"]} == set(ids)
    assert (listed["next"], listed["unreadable"]) == (None, [])
    (ada,) = (await office.get(f"{USERS}?email=ADA@example.com"))["users"]
    assert set(ada) == {*USER_MEMBERS, "sessions"}
    assert (ada["email"], ada["sessions"], ada["disabled"]) == ("ada@example.com", 1, False)
    assert (await office.get(f"{USERS}?email=nobody@example.com"))["users"] == []
    found = await office.get(f"{USERS}?search=A%40example")
    assert [each["email"] for each in found["users"]] == ["ada@example.com"]


async def test_a_part_of_an_address_is_looked_for_as_it_was_typed_and_as_it_is_on_the_wire(office: Office) -> None:
    await office.register()
    await office.register("Grace@bücher.example")
    for part in ("grace@B%C3%BCch", "XN--bcher"):
        found = await office.get(f"{USERS}?search={part}")
        assert [each["email"] for each in found["users"]] == ["Grace@bücher.example"], part


async def test_accounts_are_listed_page_by_page(office: Office) -> None:
    made = {await office.register(f"user{number}@example.com") for number in range(5)}
    seen: list[str] = []
    path, pages = f"{USERS}?limit=2", 0
    while True:
        page = await office.get(path)
        seen += [each["id"] for each in page["users"]]
        pages += 1
        if page["next"] is None:
            break
        path = f"{USERS}?limit=2&cursor={page['next']}"
    assert sorted(seen) == sorted(made)
    assert pages >= 3


async def test_a_parameter_that_makes_no_sense_is_refused(office: Office) -> None:
    for query in (
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=%D9%A1",
        "limit=99999999999999",
        "limit=",
        "limit=1&limit=2",
        "email=",
        "email=nothing",
        "email=a%40b.example&search=a",
        "email=a%40b.example&cursor=a",
        "search=",
        "cursor=",
        "cursor=of%20somebody%20else",
    ):
        assert (await office.call("GET", f"{USERS}?{query}")).outcome == (400, "malformed-request"), query


async def test_an_account_is_shown_with_why_a_log_in_fails(office: Office) -> None:
    user_id = await office.register()
    for _ in range(10):
        with pytest.raises(InvalidCredentials):
            await office.services.authentication.log_in(email=EMAIL, password=OTHER_PASSWORD, client=THEM)
    shown = await office.get(f"{USERS}/{user_id}")
    assert set(shown) == {*USER_MEMBERS, "sessions", "password_changed_at", "log_in"}
    log_in = shown["log_in"]
    assert (log_in["obstacles"], log_in["wrong_passwords"], log_in["limited_sources"]) == (["limited"], 10, 1)
    assert log_in["last_wrong_from"] == THEM.ip
    assert 0 < log_in["limited_for"] <= 15 * 60
    assert log_in["locked_for"] is None
    await office.call("POST", f"{USERS}/{user_id}/disable")
    assert (await office.get(f"{USERS}/{user_id}"))["log_in"]["obstacles"] == ["disabled", "limited"]


async def test_an_account_is_disabled_and_enabled_as_often_as_one_likes(office: Office, events: RecordedEvents) -> None:
    user_id = await office.register()
    token = await office.log_in()
    for _ in range(2):
        answer = await office.call("POST", f"{USERS}/{user_id}/disable")
        assert (answer.status, answer.json()["disabled"]) == (200, True)
        assert set(answer.json()) == USER_MEMBERS
    async with serving_services(office.services) as api:
        assert not await api.opens(token)
        assert (await api.try_log_in()).outcome == (401, "invalid-credentials")
        for _ in range(2):
            answer = await office.call("POST", f"{USERS}/{user_id}/enable")
            assert (answer.status, answer.json()["disabled"]) == (200, False)
        assert await api.log_in()
    told = [(type(event).__name__, event.by_operator) for event in events.events]
    assert told.count(("AccountDisabled", True)) == told.count(("AccountEnabled", True)) == 1
    assert ("SessionEnded", True) in told


async def test_an_account_that_its_user_has_deleted_is_shown_so_and_restored(office: Office) -> None:
    user_id = await office.register()
    end = await office.services.profiles.delete(await office.log_in())
    assert end is not None
    shown = await office.get(f"{USERS}/{user_id}")
    assert (datetime.fromisoformat(shown["deletes_at"]), shown["log_in"]["obstacles"]) == (end, ["deleted"])
    for _ in range(2):
        answer = await office.call("POST", f"{USERS}/{user_id}/restore")
        assert (answer.status, answer.json()["deletes_at"]) == (200, None)
        assert set(answer.json()) == USER_MEMBERS
    assert await office.log_in()
    assert (await office.call("POST", f"{USERS}/{NOBODY}/restore")).outcome == (404, "not-found")


async def test_sessions_are_shown_and_ended(office: Office) -> None:
    user_id = await office.register()
    tokens = [await office.log_in() for _ in range(3)]
    listed = (await office.get(f"{USERS}/{user_id}/sessions"))["sessions"]
    assert [set(each) for each in listed] == [SESSION_MEMBERS] * 3
    assert {each["ip"] for each in listed} == {THEM.ip}
    ended = listed[0]["id"]
    assert (await office.call("DELETE", f"{USERS}/{user_id}/sessions/{ended}")).status == 204
    assert (await office.call("DELETE", f"{USERS}/{user_id}/sessions/{ended}")).outcome == (404, "not-found")
    assert (await office.call("DELETE", f"{USERS}/{user_id}/sessions/x")).outcome == (404, "not-found")
    assert ended not in [each["id"] for each in (await office.get(f"{USERS}/{user_id}/sessions"))["sessions"]]
    assert (await office.call("DELETE", f"{USERS}/{user_id}/sessions")).status == 204
    assert (await office.get(f"{USERS}/{user_id}/sessions"))["sessions"] == []
    async with serving_services(office.services) as api:
        assert not [token for token in tokens if await api.opens(token)]


async def test_activity_is_shown(office: Office) -> None:
    user_id = await office.register()
    await office.log_in()
    activity = (await office.get(f"{USERS}/{user_id}/activity"))["activity"]
    assert [each["event"] for each in activity] == ["logged_in", "registered"]
    assert activity[0]["ip"] == THEM.ip


async def test_an_account_is_deleted_once(office: Office, events: RecordedEvents) -> None:
    user_id = await office.register()
    assert (await office.call("DELETE", f"{USERS}/{user_id}")).status == 204
    assert (await office.call("DELETE", f"{USERS}/{user_id}")).outcome == (404, "not-found")
    assert await office.register(), "the address is free"
    assert events.names().count("UserDeleted") == 1


async def test_an_account_that_is_not_there_is_not_found(office: Office) -> None:
    for user_id in (NOBODY, "x", "%00", f"{NOBODY}x"):
        for method, path, _ in ADMIN_ROUTES:
            if "{id}" in path:
                for session in (NOBODY, "x"):
                    there = path.replace("{id}", user_id).replace("{session}", session)
                    assert (await office.call(method, there)).outcome == (404, "not-found"), (method, there)


async def test_a_session_of_nobody_is_told_from_no_session_of_somebody(office: Office) -> None:
    user_id = await office.register()

    async def told(user_id: str, session: str) -> str:
        answer = await office.call("DELETE", f"{USERS}/{user_id}/sessions/{session}")
        return str(answer.json()["detail"])

    assert await told(NOBODY, "x") == await told(NOBODY, NOBODY)
    assert await told(user_id, "x") == await told(user_id, NOBODY) != await told(NOBODY, "x")


async def test_nothing_secret_is_shown(office: Office) -> None:
    user_id = await office.register()
    token = await office.log_in()
    shown = ""
    for path in (
        USERS,
        f"{USERS}?email={EMAIL}",
        f"{USERS}/{user_id}",
        f"{USERS}/{user_id}/sessions",
        f"{USERS}/{user_id}/activity",
    ):
        shown += json.dumps(await office.get(path))
    snapshot = await office.services.accounts.get((await office.services.administration.find(EMAIL)).id)
    assert snapshot is not None
    account = snapshot.account
    for secret in (
        GOOD_PASSWORD,
        token,
        account.credential.password_hash,
        "argon2",
        account.sessions[0].digest.hex(),
    ):
        assert secret not in shown


# Who gets in.


def everything() -> Iterator[tuple[str, str]]:
    for method, path, _ in ADMIN_ROUTES:
        yield method, path.replace("{id}", NOBODY).replace("{session}", NOBODY)
    yield "GET", "/"
    yield "GET", "/openapi.json"
    yield "GET", "/admin/v1/nothing"
    yield "PUT", USERS


async def test_who_has_no_token_gets_nothing_and_is_told_nothing(office: Office) -> None:
    for method, path in everything():

        async def ask(*headers: str, method: str = method, path: str = path) -> tuple[int, str]:
            lines = "".join(f"{line}\r\n" for line in ("Host: localhost", *headers))
            return (await office.api.raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())).outcome

        good = f"Authorization: Bearer {OPERATOR}"
        assert await ask() == (401, "authentication-required")
        assert await ask(f"{good}x") == (401, "invalid-token")
        if path != "/metrics":
            assert await ask(f"Authorization: Bearer {SCRAPER}") == (401, "invalid-token")
        assert await ask(good, f"{good}x") == (400, "malformed-request")


async def test_the_token_of_a_user_is_no_token_of_an_operator(office: Office) -> None:
    await office.register()
    token = await office.log_in()
    assert (await office.api.call("GET", USERS, token=token)).outcome == (401, "invalid-token")


async def test_a_page_of_somebody_elses_name_is_not_served(office: Office) -> None:
    for host in ("evil.example", "evil.example:9444"):
        answer = await office.call("GET", USERS, headers={"Host": host})
        assert answer.outcome == (400, "malformed-request")
    assert (await office.call("GET", USERS, headers={"Host": "localhost:1"})).status == 200


async def test_a_browser_is_allowed_nothing(office: Office) -> None:
    answer = await office.api.raw(  # which checks that there is no CORS header
        f"OPTIONS {USERS} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
        "Access-Control-Request-Method: GET\r\n\r\n".encode()
    )
    assert answer.status == 401


async def test_the_public_listener_knows_nothing_of_it(services: Services) -> None:
    assert not [path for _, path in routes_of(create_app(SETTINGS)) if path.startswith(("/admin", "/metrics"))]
    async with serving_services(services) as api:
        for method, path in everything():
            if path.startswith(("/admin", "/metrics")):
                assert (await api.call(method, path, token=OPERATOR)).outcome == (404, "not-found")


# The description.


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(ADMIN_OPERATIONS) == {(method, path) for method, path, _ in ADMIN_ROUTES}


@pytest.mark.parametrize("listen", [None, "unix:a.sock", "10.0.0.5:9444"])
def test_the_description_is_openapi(listen: str | None) -> None:
    settings = Settings(store="memory:", admin_listen=listen, admin_token_file=Path("tokens") if listen else None)
    document = admin_document(settings.for_operators())
    OpenAPIV31SpecValidator(document).validate()
    names = [operation["operationId"] for _, operation in Description(document).operations()]
    assert len(set(names)) == len(names) == len(ADMIN_ROUTES)
    secure = "Strict-Transport-Security" in document["components"]["headers"]
    assert secure == (listen == "10.0.0.5:9444")


async def test_the_description_is_served_to_operators(office: Office) -> None:
    assert await office.get("/admin/openapi.json") == json.loads(admin_json(SETTINGS.for_operators()))


# What is written down.


@pytest.mark.requirement(76)
async def test_what_an_operator_did_is_logged_with_their_name(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    user_id = await office.register()
    caplog.set_level(logging.INFO, "pickguard.admin")
    answer = await office.api.call("POST", f"{USERS}/{user_id}/disable", token=OTHER_OPERATOR)
    await office.call("DELETE", f"{USERS}/{NOBODY}")
    await office.api.call("GET", "/metrics/nothing", token=OTHER_OPERATOR)
    lines = [json.loads(message) for message in caplog.messages]
    assert lines[0] == {
        "request_id": answer.headers["X-Request-ID"],
        "operator": "grace",
        "method": "POST",
        "route": f"{USERS}/{{id}}/disable",
        "subject": user_id,
        "outcome": "success",
    }
    caplog.clear()
    for subject in (user_id.upper(), "forged%0A%7B%22operator%22:%20%22eve%22%7D"):
        await office.call("GET", f"{USERS}/{subject}")
    assert [json.loads(message)["subject"] for message in caplog.messages] == [user_id, None]
    assert [(each["operator"], each["outcome"]) for each in lines[1:]] == [("admin", "failure"), ("grace", "failure")]
    assert OPERATOR not in caplog.text
    assert OTHER_OPERATOR not in caplog.text


async def test_who_is_refused_is_logged_and_counted(
    services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measured = Measured()
    caplog.set_level(logging.WARNING, "pickguard.admin")
    async with serving_operators(services, some_tokens(tmp_path), measured=measured) as api:
        await api.call("GET", USERS, token="no-token-at-all")
        await api.call("GET", USERS, token=OPERATOR)
    assert caplog.messages == ["refused at the listener for administration, without a valid token: 1"]
    assert measured.value("pickguard_admin_requests_total", outcome="allowed") == 1
    assert measured.value("pickguard_admin_requests_total", outcome="unauthenticated") == 1


# Metrics.


@asynccontextmanager
async def scraping(services: Services, tmp_path: Path, measured: Measured) -> AsyncGenerator[ClientSession]:
    async with serving_operators(services, some_tokens(tmp_path), measured=measured) as api:
        headers = {"Authorization": f"Bearer {SCRAPER}"}
        async with ClientSession(f"http://127.0.0.1:{api.port}", headers=headers) as session:
            yield session


async def test_metrics_come_in_the_format_that_is_asked_for(services: Services, tmp_path: Path) -> None:
    measured = Measured()
    measured.metrics.requests.answered("GET", "/livez", 200, 0.001)
    wanted = key("pickguard_http_requests_total", method="GET", route="/livez", status="200")
    async with scraping(services, tmp_path, measured) as session:
        async with session.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert answer.headers["Cache-Control"] == "no-store"
            assert parsed(await answer.text())[wanted] == 1
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        async with session.get("/metrics", headers={"Accept": accept}) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert parsed_openmetrics(await answer.text())[wanted] == 1
        for odd in ("*/*", "", "image/png", "application/openmetrics-text", "text/plain;version=9;q=x", "a" * 1000):
            async with session.get("/metrics", headers={"Accept": odd}) as answer:
                assert answer.status == 200, odd
