"""Sequences of requests that nobody meant, to every route there is, sent by somebody who has an account and wants another's.

Whatever is sent, no answer is a 5xx or out of form, a success has exactly its members, nothing is logged as an error, and the
other account is as it was. ``PICKGUARD_FUZZ_ROUNDS=50`` tries fifty times as much; `make fuzz` sets it.
"""

import json
import logging
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import attrs
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.engine import Engine
from pickguard.adapters.memory import MemoryAccounts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.receipts import Receipts
from tests.security.conftest import PATIENCE
from tests.security.known_routes import EVERY, KNOWN, MEANT, THEIR_EMAIL, Route, anything
from tests.support.fakes import RecordedMail
from tests.support.http import Answer, Api, serving
from tests.support.strategies import json_values

ROUNDS: Final = int(os.environ.get("PICKGUARD_FUZZ_ROUNDS", "1"))
THEIR_PASSWORD: Final = "a phrase that stays unknown"

# What requests are made of

LONG: Final = ("9" * 400, "a" * 257, "\u00e9" * 300, "e\u0301" * 300, "\U0001f468\u200d\U0001f469" * 60, "Z\u0310\u0352" * 90)
HOSTILE: Final = (*json.loads(Path(__file__).with_name("hostile_texts.json").read_text()), *LONG)
texts = st.sampled_from(HOSTILE) | st.text(st.characters(codec=None), max_size=40)
header_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
odd_bytes = st.binary(max_size=200)
other_names = (
    st.sampled_from(["id", "role", "email_verified", "Name", "token", "__proto__", "", "name ", "name\x00", "naïve"]) | texts
)


def nested(depth: int) -> bytes:
    return b'{"name":' * depth + b"1" + b"}" * depth


def bodies(shape: type | None) -> st.SearchStrategy[bytes]:
    """Return bodies for a shape: some that are meant, more that are nearly so, and some that are nothing of the kind."""
    names = [field.name for field in attrs.fields(shape)] if shape else sorted(MEANT)
    meant = {name: st.sampled_from(MEANT.get(name, HOSTILE)) for name in names}
    required = {field.name for field in attrs.fields(shape) if field.default is attrs.NOTHING} if shape else set()
    whole = st.fixed_dictionaries(
        {name: meant[name] for name in names if name in required},
        optional={name: meant[name] for name in names if name not in required},
    )
    odd = st.dictionaries(st.sampled_from(names) | other_names, texts | json_values, max_size=4)
    near = st.tuples(whole, odd).map(lambda both: {**both[0], **both[1]})
    without = st.tuples(whole, st.sets(st.sampled_from(names))).map(
        lambda it: {k: v for k, v in it[0].items() if k not in it[1]}
    )
    as_json = st.one_of(whole, near, near, without, odd, json_values).map(lambda content: json.dumps(content).encode())
    twice = whole.map(lambda content: json.dumps(content).encode()[:-1] + b',"name":"x","name":"y"}')
    cut = st.tuples(as_json, st.integers(0, 120), odd_bytes).map(lambda it: it[0][: it[1]] + it[2] + it[0][it[1] :])
    huge = st.integers(300, 5000).map(lambda size: b'{"name":' + b"9" * size + b"}")
    large = st.integers(16_000, 17_000).map(lambda size: json.dumps(dict.fromkeys(names, "x")).encode().ljust(size))
    return st.one_of(as_json, as_json, as_json, twice, cut, huge, large, st.integers(1, 60).map(nested), odd_bytes)


KINDS: Final = [
    "application/json; charset=utf-8",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/json; charset=latin-1",
    "application/x-www-form-urlencoded",
    "text/plain",
    "",
]
CONDITIONS: Final = ["*", '"x"', 'W/"x"', '"', "x"]
OTHER_HEADERS: Final = [
    *("X-Request-ID", "User-Agent", "Origin", "Cookie", "Accept", "Accept-Encoding", "Range", "Referer", "Forwarded"),
    *("X-Forwarded-For", "X-Real-IP", "X-HTTP-Method-Override", "X-Original-URL", "Max-Forwards", "Via"),
]
headers: st.SearchStrategy[list[tuple[str, str]]] = st.just([]) | st.lists(
    st.one_of(
        st.tuples(st.just("Content-Type"), st.sampled_from(KINDS) | header_texts),
        st.tuples(st.sampled_from(["If-Match", "If-None-Match"]), st.sampled_from(CONDITIONS) | header_texts),
        st.tuples(st.just("Idempotency-Key"), st.sampled_from(["a", "b", ""]) | header_texts),
        st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "tea"])),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "identity", "br"])),
        st.tuples(st.sampled_from(OTHER_HEADERS), header_texts),
    ),
    max_size=3,
    unique_by=lambda header: header[0],
)
QUERIES: Final = [
    "?except=current",
    "?except=others",
    "?except=%ff",
    "?access_token=x",
    "?a[]=1&a[]=2",
    "?%00=%0a",
    f"?{'x' * 900}",
]
queries = st.just("") | st.sampled_from(QUERIES)
ids = st.one_of(
    st.sampled_from(["my session", "their session", "their id", "current", str(UUID(int=0)), str(UUID(int=0)).upper()]),
    st.sampled_from(["email-taken", "docs.js", "swagger-ui.css", "index.html", "swagger-ui.json"]),
    texts.map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="") or "%20"),
)
changed_tokens = st.tuples(st.integers(0, 74), st.characters(min_codepoint=0x21, max_codepoint=0x7E))
tokens = st.sampled_from([*["mine"] * 8, "ended", "none", "changed", "other"]).flatmap(
    lambda which: {"changed": changed_tokens, "other": header_texts}.get(which, st.just(which))
)
"""Which token is sent: one by its name, the own one with a character changed at a place, or a text."""


@attrs.frozen(kw_only=True)
class Request:
    """A request before it is known what the account's token and ids are."""

    line: tuple[str, str]
    id: str
    query: str
    token: str | tuple[int, str]
    headers: Sequence[tuple[str, str]]
    body: bytes | None


def requests_of(line: tuple[str, str], route: Route) -> st.SearchStrategy[Request]:
    body = bodies(route.body)
    return st.builds(
        Request,
        line=st.just(line),
        id=ids,
        query=queries,
        token=tokens,
        headers=headers,
        body=body if route.body else st.none() | st.none() | body,
    )


some_requests = st.one_of(
    *(requests_of(line, route) for line, route in KNOWN.items()),
    st.tuples(
        st.sampled_from(["PUT", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "POST", "PATCH"]), st.sampled_from(sorted(KNOWN))
    ).flatmap(lambda it: requests_of((it[0], it[1][1]), Route(None, 200, None))),
)
sequences = st.lists(some_requests, min_size=1, max_size=6)


class Intruder:
    """Somebody with an account, who knows of another account what others may know: its address and its public ids."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._accounts = 0

    async def begin(self) -> None:
        api = self._api
        await api.register()
        self._ended, self._mine = await api.log_in(), await api.log_in()
        assert (await api.call("DELETE", "/v1/sessions/current", token=self._ended)).status == 204
        self._their_token = await api.sign_up(name="Grace", email=THEIR_EMAIL, password=THEIR_PASSWORD)
        self._theirs = await self._account_of_theirs()
        mine = await api.sessions(self._mine)
        user, sessions = self._theirs
        self._ids = {"my session": mine[0]["id"], "their session": sessions[0]["id"], "their id": user["id"]}

    async def _account_of_theirs(self) -> tuple[Any, Any]:
        return await self._api.me(self._their_token), await self._api.sessions(self._their_token)

    async def send(self, request: Request) -> Answer:
        method, path = request.line
        named = re.sub(r"\{[a-z]+\}", lambda _: self._ids.get(request.id, request.id), path)
        sent = dict(request.headers)
        if request.token != "none":
            sent["Authorization"] = f"Bearer {self._token(request.token)}"
        answer = await self._api.call(method, f"{named}{request.query}", data=request.body, headers=sent)
        assert answer.status < 500, answer
        self._check_success(request, answer)
        await self._stay(answer)
        return answer

    def _check_success(self, request: Request, answer: Answer) -> None:
        if answer.status >= 300:
            return
        if request.line[0] == "HEAD":
            assert not answer.body
            return
        route = KNOWN[request.line]  # nothing else succeeds
        assert answer.status == route.status, answer
        if route.success is None:
            assert answer.body == b""
        elif route.success is not anything:
            route.success(answer.json())
        assert THEIR_PASSWORD.encode() not in answer.body

    def _token(self, which: str | tuple[int, str]) -> str:
        if isinstance(which, tuple):
            place, char = which
            return self._mine[:place] + char + self._mine[place + 1 :]
        return {"mine": self._mine, "ended": self._ended}.get(which, which)

    async def _stay(self, answer: Answer) -> None:
        """Take up a token that was given for one's own account, and get a new one where the old one was ended."""
        if answer.status in {200, 201} and answer.body.startswith(b'{"access_token"'):
            content = answer.json()
            assert content["user"]["email"] != THEIR_EMAIL
            self._mine = content["access_token"]
        elif answer.status == 204 and not await self._api.opens(self._mine):
            self._accounts += 1
            self._mine = await self._api.sign_up(email=f"ada.{self._accounts}@example.com")
            self._ids["my session"] = (await self._api.sessions(self._mine))[0]["id"]

    async def end(self) -> None:
        """Assert that the other account is as it was, and that the service still serves."""
        assert await self._account_of_theirs() == self._theirs
        assert (await self._api.try_log_in(THEIR_EMAIL, THEIR_PASSWORD)).status == 201


async def intrude(api: Api, requests: Sequence[Request], caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    intruder = Intruder(api)
    await intruder.begin()
    for request in requests:
        await intruder.send(request)
    await intruder.end()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def rounds(count: int) -> settings:
    # The fixtures hold nothing from one sequence to the next.
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count * ROUNDS, deadline=None, suppress_health_check=suppressed)


def test_every_route_is_known() -> None:
    assert set(EVERY) == set(KNOWN), "tell KNOWN what a new route reads and gives"


@asynccontextmanager
async def serving_with_mail(accounts: AccountRepository, receipts: Receipts | None = None) -> AsyncGenerator[Api]:
    """Serve every route that there is."""
    async with (
        LoopDeferred(pauses=(), spread=timedelta(0)) as deferred,
        serving(accounts, receipts=receipts, mailer=RecordedMail(), deferred=deferred) as api,
    ):
        yield api


@pytest.mark.requirement(15, 38, 40, 42, 80, 82, 85)
@given(requests=sequences)
@rounds(120)
async def test_whatever_is_sent_in_whatever_order_harms_nobody(
    caplog: pytest.LogCaptureFixture, requests: list[Request]
) -> None:
    async with serving_with_mail(MemoryAccounts()) as api:
        await intrude(api, requests, caplog)


@pytest.mark.requirement(38, 57, 80)
@given(requests=sequences)
@rounds(25)
async def test_whatever_is_sent_in_whatever_order_harms_nobody_on_a_real_store(
    valkey: Engine, store: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture, requests: list[Request]
) -> None:
    await store.flushall()
    async with (
        open_client(valkey.url, connections=8, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client,
        serving_with_mail(RedisAccounts(client), receipts=RedisReceipts(client)) as api,
    ):
        await intrude(api, requests, caplog)


@pytest.mark.requirement(80)
@pytest.mark.parametrize("line", sorted(KNOWN), ids=str)
@given(data=st.data())
@rounds(12)
async def test_whatever_is_sent_to_a_route_is_judged(
    caplog: pytest.LogCaptureFixture, line: tuple[str, str], data: st.DataObject
) -> None:
    async with serving_with_mail(MemoryAccounts()) as api:
        await intrude(api, [data.draw(requests_of(line, KNOWN[line]))], caplog)
