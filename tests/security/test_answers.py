"""What answers carry, whatever they answer, and what they do not."""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
import redis.asyncio

from pickguard.adapters.memory import MemoryAccounts
from pickguard.entrypoints.http.routes import routes
from pickguard.entrypoints.settings import Settings
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock
from tests.support.http import EMAIL, NAME, PROBLEM, Answer, Api, serving
from tests.support.store_contents import contents

ME = "/v1/users/me"
GRACE = "grace@example.com"
PATHS = sorted({path for _, path, _ in routes(Settings())})


@pytest.fixture
async def at_hand(clock: FakeClock) -> AsyncGenerator[Api]:
    """The API on a store in memory, where the store does not matter."""
    async with serving(MemoryAccounts(), clock=clock) as api:
        yield api


async def one_of_each(api: Api) -> list[Answer]:
    """Return answers of every status that a client can bring about by itself."""
    token = await api.sign_up()
    tag = (await api.call("GET", ME, token=token)).etag
    registration = {"name": NAME, "email": GRACE, "password": GOOD_PASSWORD}
    answers = [
        await api.call("GET", ME, token=token),
        await api.call("HEAD", ME, token=token),
        await api.call("GET", "/livez"),
        await api.call("GET", "/readyz"),
        await api.call("POST", "/v1/users", registration),
        await api.call("GET", ME, token=token, headers={"If-None-Match": tag}),
        await api.call("GET", "/problems/not-found", headers={"Accept": "text/html"}),
        await api.call("GET", "/problems/not-found", headers={"Accept": "application/json"}),
        await api.call("POST", "/v1/users", data=b"{"),
        await api.call("GET", ME),
        await api.call("PATCH", ME, {"password": OTHER_PASSWORD, "current_password": OTHER_PASSWORD}, token=token),
        await api.call("GET", "/nowhere"),
        await api.call("PUT", ME),
        await api.call("POST", "/v1/users", registration),
        await api.call("PATCH", ME, {}, token=token, headers={"If-Match": '"other"'}),
        await api.call("POST", "/v1/users", data=b"x" * 20_000),
        await api.call("POST", "/v1/users", data=b"{}", headers={"Content-Type": "text/plain"}),
        await api.raw(b"POST /v1/users HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"),
        await api.call("POST", "/v1/users", {}),
        await api.raw(b"this is not HTTP\r\n\r\n"),
        await api.call("DELETE", "/v1/sessions/current", token=token),
    ]
    seen = {answer.status for answer in answers}
    assert seen == {200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 412, 413, 415, 417, 422}
    return answers


@pytest.mark.requirement(52, 82)
async def test_what_an_answer_calls_itself_is_what_it_is(at_hand: Api) -> None:
    for answer in await one_of_each(at_hand):
        kind = answer.headers.get("Content-Type", "")
        if not answer.body:
            assert answer.method == "HEAD" or answer.status in {204, 304}
        elif kind.startswith("text/html"):
            # JSON has no parameter for a charset: it is UTF-8 (RFC 8259, sections 8.1 and 11). HTML has one.
            assert kind == "text/html; charset=utf-8"
            assert answer.body.decode("utf-8").lstrip().lower().startswith("<!doctype html>")
        else:
            assert kind == (PROBLEM if answer.status >= 400 else "application/json")
            content = json.loads(answer.body.decode("utf-8"))
            assert answer.status < 400 or content["status"] == answer.status


@pytest.mark.requirement(47, 50, 68, 70)
async def test_answers_of_every_status_carry_what_protects_them(at_hand: Api) -> None:
    for answer in await one_of_each(at_hand):
        names = {name.lower() for name in answer.headers}
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert not names & {"server", "x-powered-by", "via", "set-cookie"}
        for telling in ("aiohttp", "python", "redis", "valkey", "uvloop"):
            assert telling not in json.dumps([*answer.headers.items()]).lower()
            assert telling.encode() not in answer.body.lower()


@pytest.mark.requirement(88)
async def test_every_page_has_its_window_for_itself(at_hand: Api) -> None:
    """A window that another page has opened, or opens, would let that lead it elsewhere (tabnabbing)."""
    for path in ("/docs", "/problems", "/problems/not-found", "/account/sign-in", "/account/nowhere"):
        headers = (await at_hand.call("GET", path, headers={"Accept": "text/html"})).headers
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers.getall("Cross-Origin-Opener-Policy") == ["same-origin"]
        assert "base-uri 'none'" in headers["Content-Security-Policy"]
        assert "form-action '" in headers["Content-Security-Policy"]
        assert "'unsafe-" not in headers["Content-Security-Policy"]


@pytest.mark.requirement(49)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1.evil.example", "*", ""]
)
async def test_no_origin_is_let_in_that_is_not_configured(at_hand: Api, origin: str) -> None:
    # That no answer has a header of CORS is looked for in each of these.
    token = await at_hand.sign_up()
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    for path in PATHS:
        named = re.sub(r"\{[a-z]+\}", str(UUID(int=1)), path)
        preflight = await at_hand.call("OPTIONS", named, headers={"Origin": origin, **asked})
        read = await at_hand.call("GET", named, token=token, headers={"Origin": origin, "Cookie": f"token={token}"})
        for answer in (preflight, read):
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert preflight.status == 405


@pytest.mark.requirement(74)
async def test_a_parameter_in_the_query_is_none_of_the_body(at_hand: Api) -> None:
    api = at_hand
    query = "name=Eve&email=eve%40example.com&password=a%20phrase%20of%20eve&current_password=x"
    answer = await api.call("POST", f"/v1/users?{query}", {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD})
    assert (answer.status, answer.json()["name"], answer.json()["email"]) == (201, NAME, EMAIL)
    assert (await api.call("POST", f"/v1/users?{query}", {})).faults == [
        ("#/email", "required"),
        ("#/name", "required"),
        ("#/password", "required"),
    ]
    token = await api.log_in()
    changed = await api.call("PATCH", f"{ME}?{query}", {}, token=token)
    assert (changed.status, changed.json()["name"]) == (200, NAME)
    assert (await api.call("DELETE", "/v1/sessions", {"except": "current"}, token=token)).status == 204
    assert not await api.opens(token)


@pytest.mark.requirement(69)
async def test_no_answer_puts_a_token_where_a_url_goes(at_hand: Api) -> None:
    await at_hand.register()
    answer = await at_hand.try_log_in()
    token = answer.json()["access_token"]
    assert not [value for value in answer.headers.values() if token in value]
    for path in PATHS:
        named = path.replace("{id}", token)
        seen = await at_hand.call("GET", f"{named}?access_token={token}&token={token}", token=token)
        assert not [value for value in seen.headers.values() if token in value]
        assert token.encode() not in seen.body


# A store that answers and refuses, and what becomes of those who ask

Refusal = Callable[[redis.asyncio.Redis], Awaitable[object]]


async def by_memory(store: redis.asyncio.Redis) -> None:
    await store.config_set("maxmemory", 1)


async def by_role(store: redis.asyncio.Redis) -> None:
    await store.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]


async def by_too_few_replicas(store: redis.asyncio.Redis) -> None:
    await store.config_set("min-replicas-to-write", 1)


@pytest.fixture
async def mended(store: redis.asyncio.Redis) -> AsyncGenerator[redis.asyncio.Redis]:
    """The store, which takes writes again whatever the test has done to it."""
    yield store
    await store.config_set("maxmemory", 0)
    await store.config_set("min-replicas-to-write", 0)
    await store.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]


@pytest.mark.requirement(78, 79)
@pytest.mark.parametrize("refuse", [by_memory, by_role, by_too_few_replicas])
async def test_a_store_that_takes_no_writes_lets_nobody_in_and_acknowledges_nothing(
    api: Api, mended: redis.asyncio.Redis, clock: FakeClock, refuse: Refusal
) -> None:
    token = await api.sign_up()
    over = await api.log_in()
    assert (await api.call("DELETE", "/v1/sessions/current", token=over)).status == 204
    before = await contents(mended)
    await refuse(mended)
    clock.advance(timedelta(seconds=5))
    # What takes no more room than it frees, a full server does: log-outs, and a new token in place of the old one.
    writes = [
        await api.call("POST", "/v1/users", {"name": "Grace", "email": GRACE, "password": OTHER_PASSWORD}),
        await api.try_log_in(),
        await api.call("PATCH", ME, {"name": "Countess"}, token=token),
        await api.call("GET", "/readyz"),
    ]
    for answer in writes:
        assert answer.outcome == (503, "store-unavailable")
        for telling in ("redis", "oom", "readonly", "noreplicas", "script", "/tmp"):
            assert telling.encode() not in answer.body.lower()
    for wrong in ("x", over):
        assert (await api.call("GET", ME, token=wrong)).outcome == (401, "invalid-token")
    assert (await api.try_log_in(password=OTHER_PASSWORD)).outcome == (401, "invalid-credentials")
    assert await contents(mended) == before
