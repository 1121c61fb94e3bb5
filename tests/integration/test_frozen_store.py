"""A store that has stopped answering: every request ends in time, and says what became of it."""

import asyncio
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pickguard.adapters.engine import Engine
from tests.support.fakes import GOOD_PASSWORD
from tests.support.serving import Api, serving

LIMIT_SECONDS = 3.0
"""The contract's: with the store frozen or gone every request ends within it."""


@contextmanager
def frozen(engine: Engine) -> Generator[None]:
    assert engine._process is not None
    os.kill(engine._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine._process.pid, signal.SIGCONT)


async def timed(api: Api, method: str, path: str, body: object = None, *, token: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with asyncio.timeout(LIMIT_SECONDS), api.session.request(method, path, json=body, headers=headers) as response:
        problem = await response.json(content_type="application/problem+json")
        assert response.status == 503
        assert problem["type"] == "/problems/store-unavailable"
        assert int(response.headers["Retry-After"]) >= 1
        return str(problem["detail"])


async def test_every_request_ends_in_time_while_the_store_is_frozen(tmp_path: Path) -> None:
    with Engine(tmp_path / "redis") as store:
        async with serving(tmp_path / "data", "--store", store.url, "--no-tls") as service, service.client() as api:
            assert await api.register() == 201
            token = await api.log_in()
            new = {"name": "Bob", "email": "bob@example.com", "password": GOOD_PASSWORD}
            calls = [
                ("GET", "/v1/users/me", None, token),
                ("PATCH", "/v1/users/me", {"name": "Countess"}, token),
                ("DELETE", "/v1/users/me", None, token),
                ("GET", "/v1/sessions", None, token),
                ("DELETE", "/v1/sessions", None, token),
                ("DELETE", "/v1/sessions/current", None, token),
                ("POST", "/v1/sessions/current/reauthentication", {"password": GOOD_PASSWORD}, token),
                ("POST", "/v1/sessions", {"email": "ada@example.com", "password": GOOD_PASSWORD}, None),
                ("POST", "/v1/users", new, None),
                ("GET", "/readyz", None, None),
            ]
            with frozen(store):
                await asyncio.gather(*(timed(api, method, path, body, token=token) for method, path, body, token in calls * 3))
                assert (await api.call("GET", "/livez"))[0] == 200
            await api.until_ready()
            assert await api.me(token) == 200


async def test_a_write_that_met_the_freeze_says_that_its_outcome_is_unknown(tmp_path: Path) -> None:
    # Slow hashing opens a gap between the read and the write of a change of password, in which the store is frozen.
    slow = ("--hash-memory", "65536", "--hash-time-cost", "3", "--hash-threads", "1")
    with Engine(tmp_path / "redis") as store:
        async with serving(tmp_path / "data", "--store", store.url, "--no-tls", *slow) as service, service.client() as api:
            assert await api.register() == 201
            token = await api.log_in()
            change = {"password": "an entirely different phrase", "current_password": GOOD_PASSWORD}
            changing = asyncio.create_task(timed(api, "PATCH", "/v1/users/me", change, token=token))
            before = await reads_of(store)
            while await reads_of(store) < before + 2 and not changing.done():  # authenticated, and read for the change
                await asyncio.sleep(0)
            with frozen(store):
                assert "unknown" in await changing


async def reads_of(store: Engine) -> int:
    """Count the reads that a server has answered."""
    reader, writer = await asyncio.open_unix_connection(store.socket_path)
    writer.write(b"INFO commandstats\r\n")
    size = int((await reader.readline())[1:])
    text = (await reader.readexactly(size)).decode()
    writer.close()
    await writer.wait_closed()
    names = ("cmdstat_hmget:", "cmdstat_hgetall:")
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in text.splitlines() if line.startswith(names))
