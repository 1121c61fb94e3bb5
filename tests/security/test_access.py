"""Who may do what, by which ways, and that there are no others."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio

from pickguard.adapters.redis.encoding import ACTIVITY, OPERATIONS, VERSION
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.http.docs import FILES
from pickguard.entrypoints.http.problems import TYPES
from pickguard.entrypoints.settings import Settings
from tests.security.known_routes import EVERY, KNOWN, MEANT, PAGES, members
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock
from tests.support.http import EMAIL, NAME, Api
from tests.support.store_contents import contents

ME = "/v1/users/me"
EXPORT = f"{ME}/export"
GRACE = "grace@example.com"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "SEARCH"]
PATHS = sorted({path for _, path in (*EVERY, *PAGES)})
WITH_BODY = [line for line, route in KNOWN.items() if route.body]
PROBLEMS = {f"/problems/{slug}" for slug in TYPES}
PAGE = {f"/docs/{name}" for name in FILES}

# What scanners ask for first, and what frameworks and services of this kind are known to have.
WORDS = Path(__file__).with_name("words.txt").read_text().split()
MASS_ASSIGNED: dict[str, Any] = {
    "id": "019b7ca9-8f2e-7bf7-b0a8-689e37612033",
    "email_verified": True,
    "emailVerified": True,
    "created_at": "2000-01-01T00:00:00Z",
    "updated_at": "2000-01-01T00:00:00Z",
    "role": "admin",
    "roles": ["admin"],
    "is_admin": True,
    "is_superuser": True,
    "password_hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$dGFn",
    "credential": {"epoch": 0},
    "epoch": 0,
    "sessions": [],
    "disabled": False,
    "user_id": "019b7ca9-8f2e-7bf7-b0a8-689e37612033",
    "__proto__": {"role": "admin"},
    "__class__": "User",
    "user": {"email_verified": True},
    "public_keys": ["ssh-rsa x"],
}


def known(path: str) -> bool:
    return f"/{path}" in {*PATHS, *PROBLEMS, *PAGE}


@pytest.mark.requirement(14)
async def test_a_new_service_has_no_accounts(api: Api, store: redis.asyncio.Redis) -> None:
    assert await contents(store) == {}
    for name, password in product(
        ["admin", "administrator", "root", "sa", "test", "guest", "user", "pickguard", "service", "demo"],
        ["", "admin", "password", "root", "test", "changeme", "pickguard", "12345678", "toor", "guest"],
    ):
        for email in (name, f"{name}@example.com", f"{name}@localhost"):
            assert (await api.try_log_in(email, password)).outcome == (401, "invalid-credentials")
    assert await contents(store) == {}


@pytest.mark.requirement(15, 68, 85)
async def test_nothing_is_served_that_is_not_in_the_table_of_routes(api: Api) -> None:
    token = await api.sign_up()
    for word in [*WORDS, "", "%2e%2e/etc/passwd", "..;/admin", "v1/%75sers/me/..", "v1//users"]:
        if not known(word):
            for method in METHODS:
                found = await api.call(method, f"/{word}", token=token)
                # What starts like a resource with a parameter is that resource, without this method.
                assert found.status in {404, 405}, (method, word, found)
                if found.status == 405:
                    assert word.startswith(("v1/sessions/", "problems/", "docs/"))


@pytest.mark.requirement(15, 85)
def test_the_application_has_the_routes_of_the_tables_and_no_others() -> None:
    with_all = create_app(Settings(store="memory:", mail="console:"))
    routed = [(route.method, route.resource.canonical) for route in with_all.router.routes() if route.resource]
    expected = [*EVERY, *PAGES]
    assert sorted(routed) == sorted([*expected, *(("HEAD", path) for method, path in expected if method == "GET")])


@pytest.mark.requirement(55, 85)
async def test_a_resource_has_the_methods_of_the_table_of_routes_and_no_others(api: Api) -> None:
    for path in PATHS:
        allowed = {method for method, each in (*EVERY, *PAGES) if each == path}
        allowed |= {"HEAD"} if "GET" in allowed else set()
        for method in [*METHODS, "TRACE"]:
            if method not in allowed:
                answer = await api.call(method, re.sub(r"\{[a-z]+\}", str(UUID(int=1)), path))
                assert answer.status == 405, (method, path)
                assert {each.strip() for each in answer.headers["Allow"].split(",")} == allowed


@pytest.mark.requirement(55)
@pytest.mark.parametrize(
    "line",
    [
        "TRACE /v1/users/me",
        "CONNECT example.com:443",
        "CONNECT /v1/users/me",
        "OPTIONS *",
        "get /v1/users/me",
        "FOO /v1/users/me",
        "PRI *",
    ],
)
async def test_methods_that_mean_something_to_proxies_mean_nothing_here(api: Api, line: str) -> None:
    token = await api.sign_up()
    sent = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Canary: sings\r\nConnection: close\r\n\r\n"
    async with api.wire() as wire:
        await wire.send(sent.encode())
        answer = await wire.answer(line.split(" ", 1)[0])
        assert answer.status in {400, 404, 405, 501}
        assert b"sings" not in answer.body
        assert token.encode() not in answer.body


@pytest.mark.requirement(38)
async def test_whatever_is_named_by_an_id_is_not_there_for_others(api: Api) -> None:
    ada = await api.sign_up()
    grace = await api.sign_up(name="Grace", email=GRACE, password=OTHER_PASSWORD)
    ids = [(await api.me(grace))["id"], (await api.sessions(grace))[0]["id"]]
    before = [await api.me(grace), await api.sessions(grace)]
    named = [(method, path) for method, path in (*EVERY, *PAGES) if "{" in path]
    assert named
    for (method, path), each in product(named, ids):
        answer = await api.call(
            method, re.sub(r"\{[a-z]+\}", each, path), {} if (method, path) in WITH_BODY else None, token=ada
        )
        assert answer.status in {404, 410, 415, 422}, (method, path)
    assert [await api.me(grace), await api.sessions(grace)] == before


@pytest.mark.requirement(38)
@pytest.mark.would_have_caught("fender-update")
async def test_the_token_alone_says_whose_account_is_meant(api: Api) -> None:
    ada = await api.sign_up()
    grace = await api.sign_up(name="Grace", email=GRACE, password=OTHER_PASSWORD)
    theirs = await api.me(grace)
    for query in ("", f"?id={theirs['id']}", f"?user_id={theirs['id']}", f"?email={GRACE}"):
        assert (await api.call("GET", f"{ME}{query}", token=ada)).json()["email"] == EMAIL
        for body in (
            {"email": GRACE, "password": "a phrase of somebody else", "current_password": GOOD_PASSWORD},
            {"email": GRACE, "name": "Eve", "current_password": OTHER_PASSWORD},
            {"id": theirs["id"], "name": "Eve"},
        ):
            answer = await api.call("PATCH", f"{ME}{query}", body, token=ada)
            assert answer.outcome in {(409, "email-taken"), (403, "wrong-password"), (422, "invalid-body")}
    assert await api.me(grace) == theirs
    await api.log_in(GRACE, OTHER_PASSWORD)


@pytest.mark.requirement(39)
@pytest.mark.would_have_caught("github-2012")
@pytest.mark.parametrize("member", MASS_ASSIGNED)
async def test_a_client_cannot_set_what_is_not_for_clients(api: Api, store: redis.asyncio.Redis, member: str) -> None:
    token = await api.sign_up()
    before = await contents(store)
    value = MASS_ASSIGNED[member]
    for method, path in WITH_BODY:
        body = {name: MEANT.get(name, ["x"])[0] for name in members(KNOWN[method, path])}
        answer = await api.call(method, path, {**body, member: value}, token=token)
        assert (f"#/{member}", "unknown_field") in answer.faults, (method, path)
    assert await contents(store) == before


@pytest.mark.requirement(43)
async def test_a_later_step_without_the_earlier_ones_is_refused(api: Api, clock: FakeClock) -> None:
    assert (await api.try_log_in()).outcome == (401, "invalid-credentials")
    token = await api.sign_up()
    clock.advance(timedelta(hours=1))
    assert (await api.call("DELETE", ME, token=token)).outcome == (403, "reauthentication-required")
    assert (await api.call("DELETE", "/v1/sessions/current", token=token)).status == 204
    body = {"password": GOOD_PASSWORD}
    later = await api.call("POST", "/v1/sessions/current/reauthentication", body, token=token)
    assert later.outcome == (401, "invalid-token")


@pytest.mark.requirement(51)
async def test_safe_methods_change_nothing(api: Api, store: redis.asyncio.Redis) -> None:
    token = await api.sign_up()
    session = (await api.sessions(token))[0]["id"]
    body = {"name": "Eve", "email": GRACE, "password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
    before = await contents(store)
    for path in [*(path for path in PATHS if path != EXPORT), "/v1/sessions/current/", "/v1/users/me/delete", "/v1/logout"]:
        for method, sent in product(("GET", "HEAD", "OPTIONS"), (None, body)):
            named = f"{path.replace('{id}', session)}?_method=DELETE"
            headers = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "PATCH", "X-HTTP-Method": "DELETE"}
            headers |= {"Cookie": f"__Host-pickguard={token}", "Sec-Fetch-Site": "same-origin"}
            assert (await api.call(method, named, sent, token=token, headers=headers)).status < 500
    # /readyz writes a key of its own, which goes within a second.
    assert {key: value for key, value in (await contents(store)).items() if not key.startswith(b"pg:probe:")} == before


@pytest.mark.requirement(51)
async def test_an_export_changes_nothing_but_that_it_is_noted(api: Api, store: redis.asyncio.Redis) -> None:
    # What is safe asks for no change (RFC 9110, section 9.2.1), and may be logged, here in the account itself.
    token = await api.sign_up()
    before = await contents(store)
    for method in ("HEAD", "GET", "OPTIONS"):
        assert (await api.call(method, EXPORT, token=token)).status < 500
    after = await contents(store)
    notes = {VERSION, OPERATIONS, ACTIVITY}
    for key, value in after.items():
        if isinstance(value, dict):
            assert {name: part for name, part in value.items() if name not in notes} == {
                name: part for name, part in before[key].items() if name not in notes
            }
        else:
            assert value == before.get(key) or key.startswith(
                (b"pg:limit:exports:", b"pg:limit:mails:", b"pg:limit:other_mails:")
            )


def simple_requests() -> Iterator[tuple[str, bytes]]:
    """Yield bodies that a page of another origin may send without asking (Fetch Standard: CORS-safelisted types)."""
    registration = {"name": NAME, "email": GRACE, "password": GOOD_PASSWORD}
    yield "text/plain", json.dumps(registration).encode()
    yield "text/plain; charset=utf-8", json.dumps(registration).encode()
    yield "text/plain; application/json", json.dumps(registration).encode()
    yield "application/x-www-form-urlencoded", b"name=Ada&email=grace%40example.com&password=correct+horse+battery+staple"
    boundary = b"--x\r\nContent-Disposition: form-data; name=email\r\n\r\ngrace@example.com\r\n--x--\r\n"
    yield "multipart/form-data; boundary=x", boundary


@pytest.mark.requirement(51, 83)
@pytest.mark.parametrize(("kind", "body"), list(simple_requests()), ids=str)
async def test_what_a_page_of_another_origin_may_send_is_not_taken(
    api: Api, store: redis.asyncio.Redis, kind: str, body: bytes
) -> None:
    token = await api.sign_up()
    before = await contents(store)
    for method, path in WITH_BODY:
        answer = await api.call(method, path, data=body, token=token, headers={"Content-Type": kind})
        assert answer.outcome == (415, "unsupported-media-type"), (method, path)
    assert await contents(store) == before
