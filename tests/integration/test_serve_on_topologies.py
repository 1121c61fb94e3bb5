"""`pickguard serve` on stores of several servers, as an operator would start it."""

import os
from pathlib import Path

import pytest

from tests.support.serving import Api, run_to_end, serving
from tests.support.topologies import Cluster, Replicated, Sentinels, ask, until_in_sync

PASSWORD = "a-password:with/odd@signs"


async def lead_a_life(api: Api) -> None:
    assert await api.register() == 201
    assert await api.register() == 409
    token, other = await api.log_in(), await api.log_in()
    change = {"email": "countess@example.com", "current_password": "correct horse battery staple"}
    assert (await api.call("PATCH", "/v1/users/me", change, token=token))[0] == 200
    assert (await api.call("DELETE", "/v1/sessions/current", token=other))[0] == 204
    assert [await api.me(token), await api.me(other)] == [200, 401]
    assert await api.register() == 201
    assert (await api.call("DELETE", "/v1/users/me", token=token))[0] == 204
    assert await api.me(token) == 401
    assert (await api.call("GET", "/readyz"))[0] == 200


def password_file(directory: Path) -> Path:
    path = directory / "password"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"{PASSWORD}\n")
    return path


@pytest.mark.parametrize("kind", [Sentinels, Cluster])
async def test_a_service_on_several_servers(kind: type[Sentinels] | type[Cluster], tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    async with kind(tmp_path / "servers", password=PASSWORD) as topology:
        scheme, _, rest = topology.url.partition("://")
        store = ["--no-tls", "--store", f"{scheme}://{rest.rpartition('@')[2]}", "--wait-replicas", "1"]
        files = ["--store-password-file", str(password_file(tmp_path))]
        async with serving(tmp_path / "data", *store, *files) as service, service.client() as api:
            await lead_a_life(api)
            assert await service.stop() == 0
            assert "odd" not in service.announcement
        (tmp_path / "wrong").write_text("guess")
        wrong = [part.replace(str(tmp_path / "password"), str(tmp_path / "wrong")) for part in files]
        status, output, errors = await run_to_end("serve", "--port", "0", *store, *wrong, cwd=tmp_path)
        assert (status, output) == (1, "")
        assert errors.count("\n") == 1
        assert "password" in errors
        assert "guess" not in errors


async def test_a_write_that_too_few_replicas_confirm_is_503_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    async with (
        Replicated(tmp_path / "servers") as servers,
        serving(tmp_path / "data", "--no-tls", "--store", servers.url, "--wait-replicas", "1") as service,
        service.client() as api,
    ):
        assert await api.register() == 201
        token = await api.log_in()
        servers.replicas[0].freeze()
        status, problem = await api.call("PATCH", "/v1/users/me", {"name": "Countess"}, token=token)
        assert (status, problem["type"]) == (503, "/problems/store-unavailable")
        assert "unknown" in problem["detail"]
        assert "replicas" in problem["detail"]
        # Sent again, it finds nothing left to do, and is not acknowledged for that.
        again = await api.call("PATCH", "/v1/users/me", {"name": "Countess"}, token=token)
        assert (again[0], again[1]["detail"]) == (503, problem["detail"])
        assert (await api.call("DELETE", "/v1/sessions?except=current", token=token))[0] == 503
        assert await api.register("new@example.com") == 503
        assert await api.me(token) == 200
        servers.replicas[0].thaw()
        await until_in_sync(servers.master, 1)
        assert (await api.call("PATCH", "/v1/users/me", {"name": "Countess"}, token=token))[0] == 200
        assert (await api.call("DELETE", "/v1/sessions?except=current", token=token))[0] == 204
        assert await api.register("new@example.com") == 201
        assert await ask(servers.master, "DBSIZE") == await ask(servers.replicas[0], "DBSIZE")
