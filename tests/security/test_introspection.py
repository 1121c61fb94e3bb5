"""Token introspection: who may ask, what is told, and what is not (RFC 7662)."""

import json
import logging
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.domain.model.events import ServiceRefused
from pickguard.domain.model.identifiers import UserId
from pickguard.domain.model.service_credentials import ServiceCredential, ServiceSecret
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.domain.model.users import User
from tests.support.fakes import GOOD_PASSWORD, FakeClock, RecordedEvents
from tests.support.http import EMAIL, NAME, SETTINGS, Answer, Api, serving

PATH = "/v1/introspection"
FORM = "application/x-www-form-urlencoded"
SHOP, TILL, NOBODY = (ServiceSecret(secret=bytes([number]) * 33) for number in (1, 2, 3))


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "services"
    lines = [ServiceCredential(name=name, digest=secret.digest).line() for name, secret in (("shop", SHOP), ("till", TILL))]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
async def asked(client: StoreClient, clock: FakeClock, events: RecordedEvents, credentials: Path) -> AsyncGenerator[Api]:
    """The API on a real server, with credentials for two services."""
    chosen = attrs.evolve(SETTINGS, service_credentials=credentials)
    async with serving(RedisAccounts(client), clock=clock, events=events, settings=chosen) as api:
        yield api


def basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()


async def ask(
    api: Api, body: bytes | Mapping[str, str], *, given: str | None = f"Bearer {SHOP.reveal()}", kind: str = FORM
) -> Answer:
    headers = {"Content-Type": kind} | ({} if given is None else {"Authorization": given})
    return await api.call("POST", PATH, data=body if isinstance(body, bytes) else urlencode(body).encode(), headers=headers)


async def tell(api: Api, token: str, **more: str) -> Any:
    answer = await ask(api, {"token": token, **more})
    assert answer.outcome == (200, "")
    return answer.json()


@pytest.mark.requirement(29)
async def test_a_service_is_told_whose_a_token_is(asked: Api, clock: FakeClock) -> None:
    token = await asked.sign_up()
    user, (session,) = await asked.me(token), await asked.sessions(token)
    now = int(clock.now().timestamp())
    assert await tell(asked, token, token_type_hint="refresh_token") == {
        "active": True,
        "token_type": "Bearer",
        "sub": user["id"],
        "sid": session["id"],
        "username": EMAIL,
        "iat": now,
        "exp": int(datetime.fromisoformat(session["expires_at"]).timestamp()),
        "auth_time": now,
        "name": NAME,
        "email": EMAIL,
        "email_verified": False,
    }


async def test_a_new_proof_of_the_password_is_a_new_token_of_the_same_session(asked: Api, clock: FakeClock) -> None:
    token = await asked.sign_up()
    before = await tell(asked, token)
    clock.advance(timedelta(minutes=5))
    proved = await asked.call("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token=token)
    after = await tell(asked, proved.json()["access_token"])
    assert after["sid"] == before["sid"]
    assert after["auth_time"] == after["iat"] == before["iat"] + 300
    assert await tell(asked, token) == {"active": False}


@pytest.mark.requirement(29)
async def test_what_opens_nothing_is_inactive_and_nothing_more_is_said(asked: Api, clock: FakeClock) -> None:
    ended, expired = await asked.sign_up(), await asked.log_in()
    assert (await tell(asked, ended))["active"]
    assert (await asked.call("DELETE", "/v1/sessions/current", token=ended)).status == 204
    clock.advance(timedelta(days=15))
    changed = expired[:10] + ("A" if expired[10] != "A" else "B") + expired[11:]
    for token in (ended, expired, changed, "x", "\u00e9\U0001f600", " ", "pg_", SHOP.reveal(), "a" * 16_000):
        assert await tell(asked, token) == {"active": False}


@pytest.mark.requirement(41)
async def test_a_token_is_inactive_from_the_moment_that_its_end_is_acknowledged(asked: Api) -> None:
    token = await asked.sign_up()
    for method, path in (("DELETE", "/v1/sessions"), ("DELETE", "/v1/users/me")):
        assert (await tell(asked, token))["active"]
        assert (await asked.call(method, path, token=token)).status == 204
        assert await tell(asked, token) == {"active": False}
        token = await asked.log_in() if path == "/v1/sessions" else token


async def test_to_ask_is_to_use_the_session(asked: Api, clock: FakeClock) -> None:
    token = await asked.sign_up()
    expires = (await tell(asked, token))["exp"]
    clock.advance(timedelta(hours=1))
    assert (await tell(asked, token))["exp"] == expires + 3600
    (session,) = await asked.sessions(token)
    assert datetime.fromisoformat(session["last_used_at"]) == clock.now().astimezone(UTC)


async def test_a_service_proves_itself_in_either_way(asked: Api) -> None:
    token = await asked.sign_up()
    for header in (
        f"Bearer {TILL.reveal()}",
        f"bearer {SHOP.reveal()}",
        basic("shop", SHOP.reveal()),
        basic("till", TILL.reveal()).replace("Basic", "BASIC"),
        "Basic " + b64encode(f"%73hop:{SHOP.reveal()}".encode()).decode(),
    ):
        assert (await ask(asked, {"token": token}, given=header)).json()["active"]


WRONG = {
    "nothing": None,
    "an empty secret": "Bearer ",
    "an unknown secret": f"Bearer {NOBODY.reveal()}",
    "a slip of the hand": f"Bearer {SHOP.reveal()[:-1]}",
    "another's name": basic("till", SHOP.reveal()),
    "no name": basic("", SHOP.reveal()),
    "no password": basic("shop", ""),
    "no colon": "Basic " + b64encode(b"shop").decode(),
    "no base64": "Basic shop:secret",
    "no ASCII": "Basic " + b64encode("sh\u00f6p:x".encode()).decode(),
    "percent signs": "Basic " + b64encode(b"%ff%zz:%").decode(),
    "a digest": f"Bearer {SHOP.digest.hex()}",
    "another scheme": f"Digest {SHOP.reveal()}",
    "no scheme": SHOP.reveal(),
}


@pytest.mark.requirement(29)
@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
async def test_whoever_is_no_service_is_told_nothing(asked: Api, events: RecordedEvents, given: str | None) -> None:
    token = await asked.sign_up()
    refused = [await ask(asked, {"token": each}, given=given) for each in (token, "garbage")]
    refused.append(await ask(asked, b"\xff", given=given, kind="text/plain"))  # who asks comes before what is asked
    for answer in refused:
        assert answer.outcome == (401, "invalid-client")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pickguard", Basic realm="pickguard", charset="UTF-8"'
        assert {**answer.json(), "instance": ""} == {**refused[0].json(), "instance": ""}
    known = [event for event in events.events if isinstance(event, ServiceRefused)]
    assert [event.client.ip for event in known] == (["127.0.0.1"] * 3 if isinstance(given, str) and is_read(given) else [])


def is_read(given: str) -> bool:
    """Tell whether a header has a secret to be looked for."""
    return given.partition(" ")[0].lower() == "bearer" or given in {
        WRONG[each] for each in ("another's name", "no name", "no password", "percent signs")
    }


async def test_a_users_token_is_no_credential(asked: Api) -> None:
    token = await asked.sign_up()
    assert (await ask(asked, {"token": token}, given=f"Bearer {token}")).outcome == (401, "invalid-client")


async def test_a_services_secret_opens_nothing_else(asked: Api) -> None:
    for header in (f"Bearer {SHOP.reveal()}", basic("shop", SHOP.reveal())):
        answer = await asked.call("GET", "/v1/users/me", headers={"Authorization": header})
        assert answer.outcome in {(401, "invalid-token"), (401, "authentication-required")}


async def test_two_credentials_are_none(asked: Api) -> None:
    lines = f"Authorization: Bearer {SHOP.reveal()}\r\n" * 2
    answer = await asked.raw(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 0\r\n\r\n".encode(), "POST")
    assert answer.outcome == (400, "malformed-request")


FORMS: dict[bytes, tuple[int, str]] = {
    b"": (400, "malformed-body"),
    b"token=": (400, "malformed-body"),
    b"token": (400, "malformed-body"),
    b"Token=x": (400, "malformed-body"),
    b"token=x&token=x": (400, "malformed-body"),
    b"token=x&a=1&a=2": (400, "malformed-body"),
    b"token=x&token=": (400, "malformed-body"),
    b"token=%": (400, "malformed-body"),
    b"token=%zz": (400, "malformed-body"),
    b"token=%ff": (400, "malformed-body"),
    "token=é".encode(): (400, "malformed-body"),
    b"token=x\r\n": (400, "malformed-body"),
    b'{"token":"x"}': (400, "malformed-body"),
    b"&".join(b"a%d=" % number for number in range(40)): (400, "malformed-body"),
    b"token=" + b"x" * 16_384: (413, "body-too-large"),
    b"token=x&other=1&empty=&bare": (200, ""),
    b"token=%F0%9F%98%80+%00": (200, ""),
    b"&&token=x&": (200, ""),
}


@pytest.mark.parametrize("body", FORMS, ids=lambda body: body[:24].decode("latin-1"))
async def test_a_form_is_read_strictly(asked: Api, body: bytes) -> None:
    answer = await ask(asked, body)
    assert answer.outcome == FORMS[body]
    assert answer.status != 200 or answer.json() == {"active": False}


@pytest.mark.parametrize("kind", ["application/json", "text/plain", f"{FORM}; charset=latin-1", "multipart/form-data", ""])
async def test_only_a_form_is_taken(asked: Api, kind: str) -> None:
    answer = await ask(asked, {"token": "x"}, kind=kind)
    assert answer.outcome == (415, "unsupported-media-type")
    assert answer.headers["Accept"] == FORM


async def test_a_charset_that_is_utf_8_is_taken(asked: Api) -> None:
    assert (await ask(asked, {"token": "x"}, kind=f"{FORM};charset=UTF-8")).status == 200


@pytest.mark.requirement(80)
@given(
    body=st.binary(max_size=60) | st.text("token=&%+x \u00e9\x00", max_size=40).map(str.encode),
    given_=st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
    | st.binary(max_size=60).map(lambda content: "Basic " + b64encode(content).decode())
    | st.just(f"Bearer {SHOP.reveal()}"),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_is_asked_is_answered_in_form(credentials: Path, body: bytes, given_: str) -> None:
    async with serving(MemoryAccounts(), settings=attrs.evolve(SETTINGS, service_credentials=credentials)) as api:
        answer = await ask(api, body, given=given_)
    assert answer.status in {200, 400, 401}
    assert answer.status != 200 or answer.json() == {"active": False}


async def test_there_is_no_such_resource_where_no_service_is_known(api: Api) -> None:
    assert (await ask(api, {"token": "x"})).outcome == (404, "not-found")
    assert (await api.call("GET", PATH)).outcome == (404, "not-found")


class MemoryThatIsGone(MemoryAccounts):
    """A store of which only the writing of accounts works."""

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        del user_id, digest
        raise StoreUnavailable("gone")


async def test_a_store_that_is_gone_makes_no_token_inactive(credentials: Path) -> None:
    async with serving(MemoryThatIsGone(), settings=attrs.evolve(SETTINGS, service_credentials=credentials)) as api:
        token = await api.sign_up()
        assert (await ask(api, {"token": token})).outcome == (503, "store-unavailable")


@pytest.mark.requirement(75)
async def test_neither_token_nor_secret_is_logged(asked: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        token = await asked.sign_up()
        await tell(asked, token)
        await ask(asked, {"token": token}, given=basic(SHOP.reveal(), NOBODY.reveal()))
    told = json.dumps([record.getMessage() for record in caplog.records])
    for secret in (token, SHOP.reveal(), NOBODY.reveal()):
        assert secret not in told
