"""Problem details: every error of the core has its problem, and every problem its page."""

import inspect
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp.plugin import AiohttpClient

from pickguard.domain.model import errors
from pickguard.domain.model.errors import AccountsError, Fault, InvalidFields, StoreUnavailable, Unavailable
from pickguard.domain.model.limits import Limit
from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.http.problems import TABLE, TYPES, for_error, for_http_exception, problem, respond
from pickguard.entrypoints.settings import Settings
from tests.support.strategies import examples

REQUEST_ID = "019b7d1f-2a0e-7000-8000-000000000001"


def all_errors(base: type[AccountsError] = AccountsError) -> Iterator[type[AccountsError]]:
    for each in base.__subclasses__():
        if each.__module__ == errors.__name__:  # an adapter may have its own kinds of them
            yield each
            yield from all_errors(each)


def make(kind: type[AccountsError]) -> AccountsError:
    """Make an error of a kind, whatever it is made from."""
    arguments: dict[str, Any] = {
        "faults": (Fault(field="email", code="invalid_email", detail="No."),),
        "max_age": timedelta(minutes=15),
        "deletes_at": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        "reason": "it is so",
        "limit": Limit.GUESSES,
        "retry_after": timedelta(seconds=90.5),
    }
    wanted = inspect.signature(kind).parameters if "__init__" in vars(kind) or issubclass(kind, Unavailable) else {}
    return kind(**{name: arguments[name] for name in wanted if name in arguments})


def content_of(response: web.Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    content: dict[str, Any] = json.loads(response.body)
    return content


def test_an_adapters_own_kind_of_an_error_is_that_error_to_a_client() -> None:
    class UnreadableError(StoreUnavailable):
        """What an adapter may raise."""

    assert for_error(UnreadableError("a record")).type.slug == "store-unavailable"


def test_the_table_names_every_error_of_the_core_and_no_other() -> None:
    assert set(TABLE) == set(all_errors())


@pytest.mark.requirement(82)
@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.__name__)
def test_every_error_of_the_core_is_answered_with_a_problem(kind: type[AccountsError]) -> None:
    found = for_error(make(kind))
    assert TYPES[found.type.slug] is found.type
    response = respond(found, REQUEST_ID)
    assert response.content_type == "application/problem+json"
    content = content_of(response)
    assert response.status == content["status"] == found.type.status
    assert content["type"] == f"/problems/{found.type.slug}"
    assert content["instance"] == f"urn:uuid:{REQUEST_ID}"
    assert content["title"]
    assert content["detail"]
    assert ("Retry-After" in response.headers) == (response.status in {429, 503})
    assert ("WWW-Authenticate" in response.headers) == (response.status == 401)


@pytest.mark.parametrize(
    ("kind", "slug"),
    [
        (errors.InvalidFields, "invalid-body"),
        (errors.AddressTaken, "email-taken"),
        (errors.InvalidCredentials, "invalid-credentials"),
        (errors.DeletionPending, "deletion-pending"),
        (errors.WrongPassword, "wrong-password"),
        (errors.InvalidToken, "invalid-token"),
        (errors.ReauthenticationRequired, "reauthentication-required"),
        (errors.SessionNotFound, "not-found"),
        (errors.PreconditionFailed, "precondition-failed"),
        (errors.HashingOverloaded, "overloaded"),
        (errors.StoreUnavailable, "store-unavailable"),
        (errors.OutcomeUnknown, "store-unavailable"),
        (errors.AddressUndecided, "store-unavailable"),
        (errors.Contended, "overloaded"),
    ],
)
def test_an_error_has_the_problem_that_clients_rely_on(kind: type[AccountsError], slug: str) -> None:
    assert for_error(make(kind)).type.slug == slug


def test_a_client_is_told_until_when_an_account_can_be_restored() -> None:
    content = content_of(respond(for_error(make(errors.DeletionPending)), REQUEST_ID))
    assert content["deletes_at"] == "2026-01-02T03:04:05.678Z"


STATUSES = {
    "malformed-request": 400,
    "malformed-body": 400,
    "authentication-required": 401,
    "invalid-token": 401,
    "invalid-credentials": 401,
    "wrong-password": 403,
    "reauthentication-required": 403,
    "deletion-pending": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "email-taken": 409,
    "precondition-failed": 412,
    "body-too-large": 413,
    "unsupported-media-type": 415,
    "expectation-failed": 417,
    "invalid-body": 422,
    "internal-error": 500,
    "overloaded": 503,
    "store-unavailable": 503,
}


def test_every_problem_that_the_contract_names_is_there_with_its_status() -> None:
    assert {slug: TYPES[slug].status for slug in STATUSES} == STATUSES


def test_a_problem_type_says_what_it_is() -> None:
    for slug, kind in TYPES.items():
        assert kind.slug == slug
        assert kind.path == f"/problems/{slug}"
        assert kind.title.strip()
        assert kind.explanation.endswith(".")


async def test_the_path_of_every_problem_type_is_served(services: Services, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(create_app(Settings(store="memory:"), services=lambda _: opened(services)))
    for kind in TYPES.values():
        page = await client.get(kind.path)
        assert (page.status, page.content_type) == (200, "text/html")
        assert kind.slug in await page.text()
        explained = await client.get(kind.path, headers={"Accept": "application/json"})
        assert await explained.json() == {
            "type": kind.path,
            "title": kind.title,
            "status": kind.status,
            "explanation": kind.explanation,
        }
    unknown = await client.get("/problems/no-such-problem")
    assert (unknown.status, (await unknown.json())["type"]) == (404, "/problems/not-found")


@asynccontextmanager
async def opened(services: Services):  # type: ignore[no-untyped-def]
    yield services


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (timedelta(0), "1"),
        (timedelta(milliseconds=1), "1"),
        (timedelta(seconds=1), "1"),
        (timedelta(milliseconds=1001), "2"),
        (timedelta(seconds=30), "30"),
    ],
)
def test_retry_after_is_in_whole_seconds_and_never_too_early(wait: timedelta, seconds: str) -> None:
    for kind in (errors.Unavailable, errors.HashingOverloaded, errors.AddressUndecided):
        assert for_error(kind("later", retry_after=wait)).headers["Retry-After"] == seconds


def test_an_unknown_outcome_says_so() -> None:
    assert "unknown" in for_error(errors.OutcomeUnknown("lost")).detail
    assert "unknown" not in for_error(errors.StoreUnavailable("gone")).detail


@pytest.mark.requirement(78)
def test_no_reason_from_inside_reaches_a_client() -> None:
    for kind in (errors.StoreUnavailable, errors.OutcomeUnknown, errors.HashingOverloaded, errors.Contended):
        shown = content_of(respond(for_error(kind("redis://:geheim@192.0.2.1")), REQUEST_ID))
        assert "geheim" not in json.dumps(shown)


def test_a_client_learns_which_token_error_it_was_by_the_standard() -> None:
    headers = for_error(errors.InvalidToken()).headers
    assert headers["WWW-Authenticate"] == 'Bearer realm="pickguard", error="invalid_token"'
    assert for_error(errors.InvalidCredentials()).headers["WWW-Authenticate"] == 'Bearer realm="pickguard"'


def http_exceptions() -> Iterator[type[web.HTTPException]]:
    for _, each in inspect.getmembers(web, inspect.isclass):
        if issubclass(each, web.HTTPError) and each.status_code >= 400:
            yield each


@pytest.mark.requirement(82)
@pytest.mark.parametrize("kind", list(http_exceptions()), ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_has_a_problem_of_its_class(kind: type[web.HTTPException]) -> None:
    made = {
        web.HTTPMethodNotAllowed: lambda: web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]),
        web.HTTPRequestEntityTooLarge: lambda: web.HTTPRequestEntityTooLarge(1, 2),
        web.HTTPUnavailableForLegalReasons: lambda: web.HTTPUnavailableForLegalReasons(None),
    }.get(kind, kind)()
    found = for_http_exception(made)
    assert found.type.status // 100 == made.status // 100
    assert found.headers.get("Allow") == ("GET,POST" if kind is web.HTTPMethodNotAllowed else None)


# Faults


@pytest.mark.parametrize(
    ("member", "pointer"),
    [
        (None, "#"),
        ("", "#/"),
        ("email", "#/email"),
        ("a/b", "#/a~1b"),
        ("a~b", "#/a~0b"),
        ("~1", "#/~01"),
        ("a b", "#/a%20b"),
        ("a%b", "#/a%25b"),
        ('"#?[]', "#/%22%23%3F%5B%5D"),
        ("é", "#/%C3%A9"),
        ("a\nb\0", "#/a%0Ab%00"),
    ],
)
def test_a_fault_is_pointed_to_by_a_json_pointer_in_its_fragment_form(member: str | None, pointer: str) -> None:
    assert pointers(member) == [pointer]


def pointers(*members: str | None) -> list[str]:
    faults = tuple(Fault(field=member, code="unknown_field", detail="No.") for member in members)
    return [each["pointer"] for each in content_of(respond(for_error(InvalidFields(faults)), REQUEST_ID))["errors"]]


@examples(40)
@given(st.text(max_size=20))
def test_any_member_can_be_pointed_to(member: str) -> None:
    (pointer,) = pointers(member)
    assert pointer.isascii()
    if member.isprintable():
        assert unquote(pointer.removeprefix("#/")).replace("~1", "/").replace("~0", "~") == member


def test_every_fault_is_answered_in_its_order() -> None:
    faults = (Fault(field="name", code="required", detail="One."), Fault(field="email", code="invalid_email", detail="Two."))
    assert content_of(respond(for_error(InvalidFields(faults)), REQUEST_ID))["errors"] == [
        {"pointer": "#/name", "code": "required", "detail": "One."},
        {"pointer": "#/email", "code": "invalid_email", "detail": "Two."},
    ]


def test_a_problem_without_faults_has_no_member_for_them() -> None:
    assert "errors" not in content_of(respond(problem("not-found", "No."), REQUEST_ID))
