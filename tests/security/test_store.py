"""What clients send and what the store holds: the one never becomes a command, and nothing stays of who has left."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.receipts import RedisReceipts
from tests.security.conftest import PATIENCE
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock
from tests.support.http import EMAIL, NAME, Api, serving
from tests.support.store_contents import all_bytes, contents

ME = "/v1/users/me"
# Words of the protocol, of patterns, of Lua and of what other stores speak. Each may be a part of an address, or is none.
INJECTIONS = [
    "*",
    "user:*",
    "pg:*",
    "pg:{x}",
    "\r\nFLUSHALL\r\n",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "x\r\nSET pg:canary gone\r\n",
    "'; redis.call('FLUSHALL') --",
    '"..redis.call("FLUSHALL").."',
    "$(redis-cli FLUSHALL)",
    "a\x00b",
    "{pg}",
    "[a-z]*",
    "' OR '1'='1",
    '{"$ne": null}',
    "$where",
    "KEYS[1]",
    "ARGV[1]",
]


@pytest.mark.requirement(57)
@pytest.mark.parametrize("text", INJECTIONS, ids=repr)
async def test_what_a_client_sends_stays_what_it_is(api: Api, store: redis.asyncio.Redis, text: str) -> None:
    token = await api.sign_up()
    await store.set("canary", "sings")
    before = await contents(store)
    for email in (text, f"{text}@example.com", f"ada@{text}.example.com"):
        for password in (text, GOOD_PASSWORD):
            assert (await api.try_log_in(email, password)).outcome == (401, "invalid-credentials")
    for path in (text, f"{text}/current"):
        quoted = "".join(f"%{byte:02x}" for byte in path.encode())
        assert (await api.call("DELETE", f"/v1/sessions/{quoted}", token=token)).outcome == (404, "not-found")
    if text.isprintable():
        for guess in (text, f"pg_{text}"):
            assert not await api.opens(guess)
        seen = await api.call("GET", ME, headers={"X-Request-ID": text, "If-None-Match": text}, token=token)
        assert seen.status == (304 if text == "*" else 200)
    assert await contents(store) == before
    # Where it may be kept, it is kept and given back as it is.
    password = f"{text} and enough besides"
    named = await api.call("PATCH", ME, {"name": text, "password": password, "current_password": GOOD_PASSWORD}, token=token)
    if named.status == 200:
        assert named.json()["name"] == text.strip()
        await api.log_in(password=password)
    else:
        assert named.faults == [("#/name", "invalid_name")]
        assert not text.isprintable()
    answer = await api.call(
        "POST",
        "/v1/users",
        {"name": NAME, "email": f"{text}@example.com", "password": OTHER_PASSWORD},
        headers={"Idempotency-Key": text} if text.isprintable() else {},
    )
    assert answer.status in {201, 422}
    if answer.status == 201:
        assert answer.json()["email"] == f"{text}@example.com"
        assert len(await api.sessions(await api.log_in(f"{text}@example.com", OTHER_PASSWORD))) == 1
    assert await store.get("canary") == b"sings"
    assert (await api.me(await api.log_in(password=password if named.status == 200 else GOOD_PASSWORD)))["email"] == EMAIL


@pytest.mark.requirement(71)
async def test_of_a_user_who_has_left_nothing_stays(api: Api, store: redis.asyncio.Redis) -> None:
    await api.register(name="Augusta Ada King", email="augusta.king@example.com")
    old, new = "augusta.king@example.com", "countess@example.com"
    tokens = [await api.log_in(old, User_Agent="Analytical Engine") for _ in range(3)]
    user = await api.me(tokens[0])
    ids = [session["id"] for session in await api.sessions(tokens[0])]
    body = {"name": "Countess", "email": new, "password": OTHER_PASSWORD, "current_password": GOOD_PASSWORD}
    assert (await api.call("PATCH", ME, body, token=tokens[0])).status == 200
    assert b"Countess" in await all_bytes(store)
    assert (await api.call("DELETE", ME, token=tokens[0])).status == 204
    assert await contents(store) == {}, (user, ids)


@pytest.mark.requirement(71)
async def test_of_a_registration_that_named_itself_nothing_but_the_id_stays_and_for_a_day_only(
    api: Api, store: redis.asyncio.Redis
) -> None:
    body = {"name": "Augusta Ada King", "email": EMAIL, "password": GOOD_PASSWORD}
    assert (await api.call("POST", "/v1/users", body, headers={"Idempotency-Key": "the name of a request"})).status == 201
    assert (await api.call("DELETE", ME, token=await api.log_in())).status == 204
    (key,) = await contents(store)
    assert key.startswith(b"pg:request:")
    assert 0 < await store.pttl(key) <= 24 * 3600 * 1000
    found = await all_bytes(store)
    for text in ("Augusta", "King", "ada", "example", GOOD_PASSWORD, "the name of a request"):
        assert text.encode() not in found


@asynccontextmanager
async def a_service(valkey: Engine, clock: FakeClock) -> AsyncGenerator[Api]:
    """Serve as one process of several does, with connections of its own."""
    async with (
        open_client(valkey.url, connections=8, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client,
        serving(RedisAccounts(client), receipts=RedisReceipts(client), clock=clock) as api,
    ):
        yield api


@pytest.mark.requirement(33, 41)
async def test_the_sessions_of_a_deleted_user_are_over_in_every_process_and_after_a_restart(
    valkey: Engine, store: redis.asyncio.Redis, clock: FakeClock
) -> None:
    del store  # which is empty by now
    deleted = asyncio.Event()
    refused = 0

    async def use(api: Api, token: str) -> None:
        """Go on until ten requests were begun after the deletion was answered, and refused."""
        nonlocal refused
        late = 0
        while late < 10:
            begun_after = deleted.is_set()
            is_open = await api.opens(token)
            assert not (begun_after and is_open)
            late += begun_after
        refused += late

    async with a_service(valkey, clock) as first, a_service(valkey, clock) as second:
        tokens = [await first.sign_up(), await second.log_in(), await first.log_in()]
        async with asyncio.TaskGroup() as users:
            for token in tokens:
                users.create_task(use(second, token))
            assert (await first.call("DELETE", ME, token=tokens[1])).status == 204
            deleted.set()
        assert refused == 30
        assert [await each.opens(token) for each in (first, second) for token in tokens] == [False] * 6
    async with a_service(valkey, clock) as restarted:
        assert [await restarted.opens(token) for token in tokens] == [False] * 3
