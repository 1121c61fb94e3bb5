"""Clients that go away in the middle: nobody else gets their answer, and nothing is left half done."""

import asyncio
import json
import random
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from pickguard.adapters.engine import Engine
from tests.support.engines import PROGRAMS
from tests.support.fakes import GOOD_PASSWORD
from tests.support.faults import broken_invariants
from tests.support.serving import Api, Serve, serving

USERS = 4
DEPARTURES = 240
"""How many clients go away, spread over the moments of a request."""


async def ask_and_leave(service: Serve, request: bytes, *, stay: float) -> None:
    """Send a request, or its beginning, and reset the connection some time later."""
    address = urlsplit(service.base)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(stay)
    finally:
        writer.transport.abort()


def request(method: str, path: str, body: object = None, *, token: str | None = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if content:
        lines.append("Content-Type: application/json")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + content


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
async def test_clients_that_leave_do_not_touch_others(engine: Engine, tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 (shown where the test fails)
    chance = random.Random(seed)
    # Few connections, so that they change hands often. The limits are for a busy machine, whose slowness is no failure here.
    options = ["--no-tls", "--store", engine.url, "--store-connections", "4"]
    options += ["--store-timeout", "20s", "--store-connect-timeout", "20s", "--request-timeout", "30s", "--hash-wait", "30s"]
    async with serving(tmp_path / "data", *options) as service, service.client() as api:
        tokens = {}
        for number in range(USERS):
            email = f"user{number}@example.com"
            assert await api.register(email) == 201
            tokens[email] = await api.log_in(email)
        leaving = asyncio.create_task(leave_in_the_middle(service, tokens, chance))
        readers = [asyncio.create_task(read_own(api, email, token, leaving)) for email, token in tokens.items()]
        registered = await leaving
        reads = await asyncio.gather(*readers)
        assert min(reads) > 1
        for email in registered:  # either all of it was done or nothing
            status, answer = await api.call("POST", "/v1/users", {"name": "Leaver", "email": email, "password": GOOD_PASSWORD})
            assert status in {201, 409}, answer
            await api.log_in(email)
        assert await service.stop() == 0
    async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as direct:
        assert await broken_invariants(direct) == []


async def leave_in_the_middle(service: Serve, tokens: dict[str, str], chance: random.Random) -> list[str]:
    registered = []
    for number in range(DEPARTURES):
        email = chance.choice(sorted(tokens))
        kind = number % 4
        if kind == 0:
            sent = request("GET", "/v1/users/me", token=tokens[email])
        elif kind == 1:
            sent = request("PATCH", "/v1/users/me", {"name": f"{email} {number}"}, token=tokens[email])
        elif kind == 2:
            sent = request("GET", "/v1/sessions", token=tokens[email])
        else:
            registered.append(f"leaver{number}@example.com")
            body = {"name": "Leaver", "email": registered[-1], "password": GOOD_PASSWORD}
            sent = request("POST", "/v1/users", body)
        whole = chance.random() < 0.8
        if not whole:
            sent = sent[: chance.randrange(len(sent))]
        # A read takes one or two milliseconds and a registration some thirty: the moments are spread over both.
        await ask_and_leave(service, sent, stay=chance.random() * (0.04 if kind == 3 else 0.003))
    return registered


async def read_own(api: Api, email: str, token: str, leaving: "asyncio.Task[list[str]]") -> int:
    """Read again and again who one is, until the others have left; return how often."""
    reads = 0
    while not leaving.done():
        status, user = await api.call("GET", "/v1/users/me", token=token)
        assert status == 200, user
        assert user["email"] == email
        assert user["name"] == "Ada" or user["name"].startswith(email)
        status, answer = await api.call("GET", "/v1/sessions", token=token)
        assert status == 200, answer
        assert len(answer["sessions"]) == 1
        reads += 1
    return reads
