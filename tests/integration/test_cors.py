"""Which pages of other origins may use the API: those that are configured, and nobody else (ASVS 3.4.2)."""

import json
from collections.abc import AsyncGenerator

import attrs
import pytest
from multidict import CIMultiDict

from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.errors import StoreUnavailable
from tests.contracts.http_api import ALLOWED, ME
from tests.support.fakes import GOOD_PASSWORD
from tests.support.http import EMAIL, NAME, SETTINGS, Answer, Api, serving

APP = "https://app.example.com"
DEVELOPMENT = "http://localhost:3000"
EXPOSED = "ETag, Location, Retry-After, WWW-Authenticate, X-Request-ID"
REGISTRATION = {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD}
FOREIGN = [
    "https://evil.example",
    "null",
    "*",
    "https://app.example.com.evil.example",
    "https://evil.example/https://app.example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://APP.example.com",
    f"{APP}/",
    f"{APP}, {DEVELOPMENT}",
    f" {APP} {DEVELOPMENT}",
    "",
]


class Failing(MemoryAccounts):
    """A store that is not there when a test says so."""

    is_gone = False

    async def check_writable(self) -> None:
        if self.is_gone:
            raise StoreUnavailable("gone")


@pytest.fixture
def accounts() -> Failing:
    return Failing()


@pytest.fixture
async def api(accounts: Failing) -> AsyncGenerator[Api]:
    settings = attrs.evolve(SETTINGS, cors_origins=(APP, DEVELOPMENT))
    async with serving(accounts, settings=settings) as api:
        yield api


def told(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


def read_by(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}


@pytest.mark.requirement(49)
@pytest.mark.parametrize("origin", [APP, DEVELOPMENT])
async def test_a_configured_origin_may_read_every_answer(api: Api, accounts: Failing, origin: str) -> None:
    asked = {"Origin": origin}
    registered = await api.call("POST", "/v1/users", REGISTRATION, headers=asked)
    logged_in = await api.call("POST", "/v1/sessions", {"email": EMAIL, "password": GOOD_PASSWORD}, headers=asked)
    token = logged_in.json()["access_token"]
    read = await api.call("GET", ME, token=token, headers=asked)
    accounts.is_gone = True
    answers = [
        registered,
        logged_in,
        read,
        await api.call("GET", ME, token=token, headers={**asked, "If-None-Match": read.etag}),
        await api.call("GET", ME, headers=asked),
        await api.call("GET", "/nowhere", headers=asked),
        await api.call("PUT", ME, headers=asked),
        await api.call("PATCH", ME, {}, token=token, headers={**asked, "If-Match": '"x"'}),
        await api.call("POST", "/v1/users", data=b" " * 20_000, headers=asked),
        await api.call("POST", "/v1/users", data=b"{}", headers={**asked, "Content-Type": "text/plain"}),
        await api.call("POST", "/v1/users", {}, headers=asked),
        await api.call("GET", "/problems/not-found", headers=asked),
        await api.call("GET", "/readyz", headers=asked),
        await api.call("DELETE", "/v1/sessions", token=token, headers=asked),
    ]
    expected = [201, 201, 200, 304, 401, 404, 405, 412, 413, 415, 422, 200, 503, 204]
    assert [answer.status for answer in answers] == expected
    for answer in answers:
        assert told(answer) == read_by(origin)


@pytest.mark.parametrize("path", ALLOWED)
async def test_a_browser_that_asks_beforehand_is_told_the_methods_of_the_resource(api: Api, path: str) -> None:
    for wanted in ("PATCH", "DELETE", "GET", "nonsense"):
        asked = {
            "Origin": APP,
            "Access-Control-Request-Method": wanted,
            "Access-Control-Request-Headers": "authorization,x-anything",
        }
        answer = await api.call("OPTIONS", path, headers=asked)
        assert answer.status == 204
        found = told(answer)
        assert set(found.pop("Access-Control-Allow-Methods").split(", ")) == ALLOWED[path]
        assert found == {
            **read_by(APP),
            "Access-Control-Allow-Headers": (
                "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-ID"
            ),
            "Access-Control-Max-Age": "600",
        }


@pytest.mark.requirement(49)
@pytest.mark.parametrize("origin", FOREIGN)
async def test_another_origin_is_told_nothing(api: Api, origin: str) -> None:
    token = await api.sign_up()
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    answers = [
        await api.call("GET", ME, token=token, headers=headers),
        await api.call("GET", ME, token=token, headers={**headers, "If-Match": "*"}),
        await api.call("OPTIONS", ME, headers=headers),
        await api.call("GET", "/nowhere", headers=headers),
    ]
    assert [answer.status for answer in answers] == [200, 200, 405, 404]
    assert [told(answer) for answer in answers] == [{}] * 4


async def test_two_origins_are_none(api: Api) -> None:
    headers = CIMultiDict([("Origin", APP), ("Origin", DEVELOPMENT)])
    for path in ("/livez", ME):
        answer = await api.call("GET", path, headers=headers)
        assert told(answer) == {}


async def test_who_asks_for_no_page_is_answered_as_ever(api: Api) -> None:
    # Vary is looked for in all of these: a cache between must not give one origin what it gave another.
    token = await api.sign_up()
    for answer in (
        await api.call("GET", ME, token=token),
        await api.call("GET", ME, token="pg_wrong"),
        await api.call("GET", ME, token=token, headers={"If-Match": "*"}),
        await api.call("GET", "/problems/not-found"),
    ):
        assert told(answer) == {}
    assert (await api.call("OPTIONS", ME, headers={"Origin": APP})).status == 405
    assert (
        await api.call("OPTIONS", "/nowhere", headers={"Origin": APP, "Access-Control-Request-Method": "GET"})
    ).status == 404


async def test_only_what_is_asked_beforehand_is_answered_so(api: Api) -> None:
    answer = await api.call("PUT", ME, headers={"Origin": APP, "Access-Control-Request-Method": "GET"})
    assert answer.status == 405


async def test_both_ways_give_an_origin_the_same_answer(api: Api) -> None:
    token = await api.sign_up()
    short, ordinary = [
        await api.call("GET", ME, token=token, headers=headers) for headers in ({}, {"If-None-Match": '"no such state"'})
    ]
    own = {"Date", "X-Request-ID"}
    assert sorted(item for item in short.headers.items() if item[0] not in own) == sorted(
        item for item in ordinary.headers.items() if item[0] not in own
    )
    assert json.loads(short.body) == json.loads(ordinary.body)


async def test_without_the_setting_no_origin_is_told_anything() -> None:
    # The absence of every such header is looked for in each answer.
    async with serving(MemoryAccounts()) as api:
        token = await api.sign_up()
        for origin in (APP, *FOREIGN):
            headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            assert (await api.call("GET", ME, token=token, headers=headers)).status == 200
            assert (await api.call("OPTIONS", ME, headers=headers)).outcome == (405, "method-not-allowed")
