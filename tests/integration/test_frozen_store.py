"""A store that has stopped answering: every request ends in time, and says what became of it."""

import asyncio
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis import scripts
from tests.support.fakes import GOOD_PASSWORD
from tests.support.faults import Proxy
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


@pytest.mark.requirement(67, 79)
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


@pytest.mark.requirement(67)
async def test_a_write_that_met_the_freeze_says_that_its_outcome_is_unknown(tmp_path: Path) -> None:
    with Engine(tmp_path / "redis") as store:
        proxy = Proxy(store.socket_path)
        path = store.socket_path.with_name("proxy.sock")
        async with (
            proxy.listening(path),
            serving(tmp_path / "data", "--store", f"unix://{path}", "--no-tls") as service,
            service.client() as api,
        ):
            assert await api.register() == 201
            token = await api.log_in()
            proxy.freeze = lambda command: scripts.SAVE.digest.encode() in command
            detail = await timed(api, "PATCH", "/v1/users/me", {"name": "Countess"}, token=token)
            assert proxy.frozen
            assert "unknown" in detail
