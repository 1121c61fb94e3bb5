"""Every answer that the API's description has is driven: each operation, each status, each problem, with each kind of settings.

That an answer is as it is described, headers and members and all, is looked at by `tests.support.http` wherever one comes. Here
it is made sure that there is no description of an answer that the service never gives. Who adds one says here how to get it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs
import pytest
from multidict import CIMultiDict

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts
from pickguard.adapters.memory_limits import Unlimited
from pickguard.domain.model.errors import Contended, RateLimited, StoreUnavailable
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import ConfirmNewAddress, ResetPassword, TokenMail, VerifyAddress
from pickguard.domain.model.service_credentials import ServiceCredential, ServiceSecret
from pickguard.domain.model.users import EmailAddress
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.bootstrap import build_services
from pickguard.entrypoints.http import requests
from pickguard.entrypoints.http.docs import FILES
from pickguard.entrypoints.http.openapi import openapi_document
from pickguard.entrypoints.settings import Settings
from pickguard.ports.hashing import Purpose
from tests.contracts.http_api import ME, OTHER_EMAIL, UNKNOWN_TOKEN, WRONG_PASSWORD
from tests.contracts.http_mail import UNKNOWN_TOKEN as UNKNOWN_MAILED
from tests.support.accounts import operation
from tests.support.description import Description, Line
from tests.support.fakes import (
    GOOD_PASSWORD,
    OTHER_PASSWORD,
    FakeClock,
    NoCommonPasswords,
    RecordedMail,
    RecordedPace,
    cheap_hasher,
)
from tests.support.http import EMAIL, NAME, SETTINGS, Answer, Api, serving

KINDS: Final[Mapping[str, Settings]] = {
    "as it comes": SETTINGS,
    "with mail": attrs.evolve(SETTINGS, mail="console:"),
    "private": attrs.evolve(SETTINGS, mail="console:", registration="private"),
    "closed": attrs.evolve(SETTINGS, registration="closed"),
    "for pages of others": attrs.evolve(SETTINGS, cors_origins=("https://app.example.com",)),
    "without limits": attrs.evolve(SETTINGS, rate_limits="off"),
    "without its page": attrs.evolve(SETTINGS, docs="off"),
    "with a grace": attrs.evolve(SETTINGS, deletion_grace=timedelta(days=30)),
}
OPERATIONS: Final = [
    pytest.param(kind, line, id=f"{kind}: {' '.join(line)}")
    for kind, settings in KINDS.items()
    if not kind.startswith("without")  # which has only less than the others
    for line, _ in Description(openapi_document(settings)).operations()
]
PERSON: Final = {"name": "Grace Hopper", "email": OTHER_EMAIL, "password": OTHER_PASSWORD}
BODIES: Final[Mapping[Line, dict[str, str]]] = {
    ("POST", "/v1/users"): PERSON,
    ("POST", "/v1/sessions"): {"email": EMAIL, "password": GOOD_PASSWORD},
    ("POST", "/v1/account-restorations"): {"email": EMAIL, "password": GOOD_PASSWORD},
    ("PATCH", ME): {"name": "Ada", "password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD},
    ("POST", "/v1/sessions/current/reauthentication"): {"password": GOOD_PASSWORD},
    ("POST", "/v1/email-verifications/confirm"): {"token": UNKNOWN_MAILED},
    ("POST", "/v1/email-verifications/decline"): {"token": UNKNOWN_MAILED},
    ("POST", "/v1/password-resets"): {"email": EMAIL},
    ("POST", "/v1/password-resets/confirm"): {"token": UNKNOWN_MAILED, "password": OTHER_PASSWORD},
}
"""What each operation reads, as it is meant."""


class Breaking:
    """Passes everything on to what it stands for, until it is told what to raise."""

    def __init__(self, works: object) -> None:
        self._works = works
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._works, name)

        async def call(*args: Any, **named: Any) -> Any:
            if self.failure is not None:
                raise self.failure
            return await method(*args, **named)

        return call


@attrs.frozen(kw_only=True)
class World:
    """A service, somebody who has an account there and is logged in, and what the service stands on."""

    api: Api
    line: Line
    token: str
    session_id: str
    clock: FakeClock
    mail: RecordedMail
    deferred: LoopDeferred
    accounts: Breaking
    limiter: Breaking
    patch: pytest.MonkeyPatch
    add: Callable[[str], Awaitable[None]]

    async def ask(
        self,
        body: object = None,
        *,
        token: str | None = "",
        data: bytes | None = None,
        headers: Mapping[str, str] | CIMultiDict[str] | None = None,
        query: str = "",
        path: str | None = None,
    ) -> Answer:
        """Send the operation's request; as it is meant, but for what is given."""
        method, template = self.line
        if body is None and data is None:
            body = BODIES.get(self.line)
        token = self.token if token == "" else token
        at = (path or self.path_of(template)) + query
        return await self.api.call(method, at, body if data is None else None, token=token, data=data, headers=headers)

    def path_of(self, template: str) -> str:
        return template.replace("{id}", self.session_id).replace("{slug}", "email-taken").replace("{file}", "docs.js")

    async def mailed(self, kind: type[TokenMail]) -> str:
        await self.deferred.drain()
        return self.mail.last(kind).token

    async def register(self, person: Mapping[str, str] = PERSON) -> None:
        assert (await self.api.call("POST", "/v1/users", dict(person))).status in {201, 202}

    async def change_address(self, email: str) -> None:
        change = {"email": email, "current_password": GOOD_PASSWORD}
        assert (await self.api.call("PATCH", ME, change, token=self.token)).status == 200

    async def ask_for_reset(self) -> str:
        assert (await self.api.call("POST", "/v1/password-resets", {"email": EMAIL})).status == 202
        return await self.mailed(ResetPassword)

    async def etag(self) -> str:
        return (await self.api.call("GET", ME, token=self.token)).etag


@asynccontextmanager
async def world(settings: Settings, line: Line, patch: pytest.MonkeyPatch) -> AsyncGenerator[World]:
    clock, mail, limiter = FakeClock(), RecordedMail(), Breaking(Unlimited())
    accounts = Breaking(MemoryAccounts(now=clock.now))
    working: Any = accounts
    limits: Any = limiter
    async with cheap_hasher(wait_budget=timedelta(seconds=30)) as hasher, LoopDeferred(spread=timedelta(0)) as deferred:
        services = build_services(accounts=working, hasher=hasher, clock=clock, common_passwords=NoCommonPasswords())
        stored = await hasher.hash(GOOD_PASSWORD, purpose=Purpose.REGISTRATION)

        async def add(email: str) -> None:
            """Add a user with a verified address, as an operator does, whoever may register."""
            await services.imports.add(name=NAME, email=email, password_hash=stored, email_verified=True)

        await add(EMAIL)
        async with serving(
            working,
            receipts=MemoryReceipts(),
            clock=clock,
            hasher=hasher,
            limiter=limits,
            mailer=mail if settings.mail else None,
            deferred=deferred,
            pace=RecordedPace(),
            mode=RegistrationMode(settings.registration),
            grace=settings.deletion_grace,
            settings=settings,
        ) as api:
            logged_in = (await api.try_log_in()).json()
            yield World(
                api=api,
                line=line,
                token=logged_in["access_token"],
                session_id=logged_in["session"]["id"],
                clock=clock,
                mail=mail,
                deferred=deferred,
                accounts=accounts,
                limiter=limiter,
                patch=patch,
                add=add,
            )


# How to get each problem


async def two_tokens(world: World) -> Answer:
    return await world.ask(token=None, headers=CIMultiDict([("Authorization", "Bearer x"), ("Authorization", "Bearer x")]))


async def no_body_in_time(world: World) -> Answer:
    world.patch.setattr(requests, "BODY_SECONDS", 0.05)
    method, path = world.line
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", "Content-Length: 9"]
    async with world.api.wire() as wire:
        await wire.send("\r\n".join([*lines, f"Authorization: Bearer {world.token}", "", "{"]).encode())
        answer = await wire.answer(method)
    world.api.description.check(method, path, status=answer.status, headers=answer.headers, body=answer.body)
    return answer


def failing(failure: Exception, *, of: str = "accounts limiter") -> Callable[[World], Awaitable[Answer]]:
    async def drive(world: World) -> Answer:
        for name in of.split():
            getattr(world, name).failure = failure
        return await world.ask()

    return drive


async def with_a_key_of_another(world: World) -> Answer:
    named = {"Idempotency-Key": "a"}
    assert (await world.ask(headers=named)).status in {201, 202}
    return await world.ask({**PERSON, "name": "Eve"}, headers=named)


async def with_a_wrong_password(world: World) -> Answer:
    member = "current_password" if world.line == ("PATCH", ME) else "password"
    return await world.ask({**BODIES[world.line], member: WRONG_PASSWORD})


async def long_after_the_log_in(world: World) -> Answer:
    world.clock.advance(timedelta(minutes=16))
    return await world.ask()


async def of_a_deleted_account(world: World) -> Answer:
    found = await world.accounts.find(EmailAddress.parse(EMAIL))
    deleted = found.account.schedule_deletion(world.clock.now(), timedelta(days=30)).account
    await world.accounts.save(found, deleted, operation=operation())
    return await world.ask()


async def with_an_address_that_is_taken(world: World) -> Answer:
    if world.line[1].endswith("confirm"):
        await world.change_address(OTHER_EMAIL)
        token = await world.mailed(ConfirmNewAddress)
        await world.register()
        return await world.ask({"token": token})
    if world.line == ("POST", "/v1/users"):
        return await world.ask({**PERSON, "email": EMAIL})
    await world.add(OTHER_EMAIL)
    return await world.ask({"email": OTHER_EMAIL, "current_password": GOOD_PASSWORD})


PROBLEMS: Final[Mapping[str, Callable[[World], Awaitable[Answer]]]] = {
    "malformed-request": two_tokens,
    "malformed-body": lambda world: world.ask(data=b"{"),
    "authentication-required": lambda world: world.ask(token=None),
    "invalid-token": lambda world: world.ask(token=UNKNOWN_TOKEN),
    "invalid-credentials": with_a_wrong_password,
    "wrong-password": with_a_wrong_password,
    "reauthentication-required": long_after_the_log_in,
    "deletion-pending": of_a_deleted_account,
    "registration-closed": lambda world: world.ask(),
    "not-found": lambda world: world.ask(path=f"{world.line[1].rpartition('/')[0]}/{UUID(int=7)}"),
    "request-timeout": no_body_in_time,
    "email-taken": with_an_address_that_is_taken,
    "token-spent": lambda world: world.ask(),
    "precondition-failed": lambda world: world.ask(headers={"If-Match": '"another"'}),
    "body-too-large": lambda world: world.ask(data=b" " * 20_000),
    "target-too-long": lambda world: world.ask(query=f"?{'x' * 8000}"),
    "unsupported-media-type": lambda world: world.ask(headers={"Content-Type": "text/plain"}),
    "expectation-failed": lambda world: world.ask(headers={"Expect": "tea"}),
    "invalid-body": lambda world: world.ask({"unknown": True}),
    "idempotency-key-reused": with_a_key_of_another,
    "too-many-requests": failing(RateLimited(Limit.GUESSES, retry_after=timedelta(seconds=1)), of="limiter"),
    "headers-too-large": lambda world: world.ask(headers={"X-Large": "x" * 9000}),
    "internal-error": failing(RuntimeError("nobody thought of this")),
    "overloaded": failing(Contended("too many"), of="accounts"),
    "store-unavailable": failing(StoreUnavailable("gone")),
}

# How to get what is no problem, where it takes more than the request as it is meant


async def unchanged(world: World) -> Answer:
    return await world.ask(headers={"If-None-Match": await world.etag()})


async def with_a_token_for_a_new_address(world: World) -> Answer:
    await world.change_address("lovelace@example.com")
    return await world.ask({"token": await world.mailed(ConfirmNewAddress)})


async def with_a_token_of_a_new_account(world: World) -> Answer:
    await world.register()
    return await world.ask({"token": await world.mailed(VerifyAddress)})


async def with_a_token_for_a_password(world: World) -> Answer:
    return await world.ask({"token": await world.ask_for_reset(), "password": OTHER_PASSWORD})


async def as_a_page_and_as_json(world: World) -> Answer:
    page = await world.ask(headers={"Accept": "text/html"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    return await world.ask(headers={"Accept": "application/json"})


async def each_file(world: World) -> Answer:
    for name in FILES:
        plain, packed = [
            await world.ask(path=f"/docs/{name}", headers={"Accept-Encoding": coding}) for coding in ("identity", "gzip")
        ]
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.status == 200
    return await world.ask()


SUCCESSES: Final[Mapping[tuple[Line, int], Callable[[World], Awaitable[Answer]]]] = {
    (("GET", ME), 304): unchanged,
    (("POST", "/v1/email-verifications/confirm"), 204): with_a_token_for_a_new_address,
    (("POST", "/v1/email-verifications/decline"), 204): with_a_token_of_a_new_account,
    (("POST", "/v1/password-resets/confirm"), 204): with_a_token_for_a_password,
    (("GET", "/problems"), 200): as_a_page_and_as_json,
    (("GET", "/problems/{slug}"), 200): as_a_page_and_as_json,
    (("GET", "/docs/{file}"), 200): each_file,
}


@pytest.mark.requirement(85)
@pytest.mark.parametrize(("kind", "line"), OPERATIONS)
async def test_every_answer_that_is_described_is_given(kind: str, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {(status, slug) for each, status, slug in Description(openapi_document(KINDS[kind])).outcomes() if each == line}
    given = set()
    for status, slug in sorted(described):
        drive = PROBLEMS[slug] if slug else SUCCESSES.get((line, status), World.ask)
        with monkeypatch.context() as patch:
            async with world(KINDS[kind], line, patch) as there:
                given.add((await drive(there)).outcome)
    assert given == described


INTROSPECTION: Final[Line] = ("POST", "/v1/introspection")
SHOP: Final = ServiceSecret(secret=bytes(range(33)))
ASKING: Final = {"Authorization": f"Bearer {SHOP.reveal()}", "Content-Type": "application/x-www-form-urlencoded"}


async def asked_by_a_service(world: World, *, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    data = f"token={world.token}".encode() if data is None else data
    return await world.ask(token=None, data=data, headers={**ASKING, **(headers or {})})


async def asked_while(world: World, failure: Exception) -> Answer:
    world.accounts.failure = failure
    return await asked_by_a_service(world)


async def asked_for_too_much(world: World) -> Answer:
    return await world.ask(token=None, data=b"token=x", headers=ASKING, query=f"?{'x' * 8000}")


async def asked_with_two_credentials(world: World) -> Answer:
    headers = CIMultiDict([*ASKING.items(), ("Authorization", ASKING["Authorization"])])
    return await world.ask(token=None, data=b"token=x", headers=headers)


async def asked_too_slowly(world: World) -> Answer:
    world.patch.setattr(requests, "BODY_SECONDS", 0.05)
    method, path = world.line
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in ASKING.items())]
    async with world.api.wire() as wire:
        await wire.send("\r\n".join([*lines, "Content-Length: 9", "", "t"]).encode())
        answer = await wire.answer(method)
    world.api.description.check(method, path, status=answer.status, headers=answer.headers, body=answer.body)
    return answer


ASKED: Final[Mapping[str, Callable[[World], Awaitable[Answer]]]] = {
    "": asked_by_a_service,
    "malformed-request": asked_with_two_credentials,
    "malformed-body": lambda world: asked_by_a_service(world, data=b"token=x&token=y"),
    "invalid-client": lambda world: asked_by_a_service(world, headers={"Authorization": "Bearer nonsense"}),
    "request-timeout": asked_too_slowly,
    "body-too-large": lambda world: asked_by_a_service(world, data=b"x" * 20_000),
    "target-too-long": asked_for_too_much,
    "unsupported-media-type": lambda world: asked_by_a_service(world, headers={"Content-Type": "text/plain"}),
    "expectation-failed": lambda world: asked_by_a_service(world, headers={"Expect": "tea"}),
    "headers-too-large": lambda world: asked_by_a_service(world, headers={"X-Large": "x" * 9000}),
    "internal-error": lambda world: asked_while(world, RuntimeError("nobody thought of this")),
    "store-unavailable": lambda world: asked_while(world, StoreUnavailable("gone")),
}


@pytest.mark.requirement(85)
async def test_every_answer_to_a_service_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "services"
    path.write_text(ServiceCredential(name="shop", digest=SHOP.digest).line())
    settings = attrs.evolve(SETTINGS, service_credentials=path)
    described = {
        (status, slug) for line, status, slug in Description(openapi_document(settings)).outcomes() if line == INTROSPECTION
    }
    given = set()
    for drive in ASKED.values():
        with monkeypatch.context() as patch:
            async with world(settings, INTROSPECTION, patch) as there:
                given.add((await drive(there)).outcome)
    assert given == described


def test_no_way_to_an_answer_is_left_over() -> None:
    described = [
        (line, status, slug)
        for settings in KINDS.values()
        for line, status, slug in Description(openapi_document(settings)).outcomes()
    ]
    assert set(PROBLEMS) == {slug for _, _, slug in described if slug}
    assert set(SUCCESSES) <= {(line, status) for line, status, slug in described if not slug}
    assert set(BODIES) <= {line for line, _, _ in described}


@pytest.mark.requirement(85)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_description_that_is_served_is_that_of_the_settings(kind: str) -> None:
    settings = KINDS[kind]
    mode, mailer = RegistrationMode(settings.registration), RecordedMail() if settings.mail else None
    grace = settings.deletion_grace
    async with serving(MemoryAccounts(), settings=settings, mode=mode, mailer=mailer, grace=grace) as api:
        answer = await api.call("GET", "/openapi.json")
        if settings.docs == "off":
            assert answer.outcome == (404, "not-found")
            assert [(await api.call("GET", path)).status for path in ("/docs", "/docs/docs.js")] == [404, 404]
            assert b"docs" not in (await api.call("GET", "/problems/not-found")).body
        else:
            assert answer.json() == openapi_document(settings)
            assert (await api.call("HEAD", "/openapi.json")).headers["Content-Length"] == str(len(answer.body))
