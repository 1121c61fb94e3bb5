"""`pickguard serve --admin-listen`, as it is run: by several processes, over TCP, a Unix socket and TLS."""

import asyncio
import json
import os
import re
import signal
import ssl
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, UnixConnector

from pickguard.entrypoints.tls import development_certificate
from tests.support.certificates import write_pair
from tests.support.operators import OPERATOR, SCRAPER
from tests.support.serving import START_SECONDS, Serve, children, clean_environment, command_of, run_to_end, serving, until_gone
from tests.support.telemetry import Sample, key, parsed

ME = key("pickguard_http_requests_total", method="GET", route="/v1/users/me", status="200")


@pytest.fixture
def tokens(tmp_path: Path) -> list[str]:
    people, scrapers = tmp_path / "admin-tokens", tmp_path / "metrics-token"
    people.write_text(f"{OPERATOR}\n")
    scrapers.write_text(f"{SCRAPER}\n")
    return ["--admin-token-file", str(people), "--metrics-token-file", str(scrapers)]


def operators_of(service: Serve) -> str:
    found = re.search(r"operators\s+(\S+)", service.announcement)
    assert found is not None, service.announcement
    return found[1]


@asynccontextmanager
async def scraper(service: Serve) -> AsyncGenerator[ClientSession]:
    """A client like Prometheus: connections of its own for each scrape, so that any worker may answer."""
    where = operators_of(service)
    headers = {"Authorization": f"Bearer {SCRAPER}"}
    if where.startswith("unix:"):
        connector: TCPConnector | UnixConnector = UnixConnector(where.removeprefix("unix:"), force_close=True)
        base = "http://localhost"
    else:
        tls = ssl.create_default_context(cafile=service.certificate) if where.startswith("https") else True
        connector, base = TCPConnector(force_close=True, ssl=tls), where
    async with ClientSession(base, connector=connector, headers=headers) as session:
        yield session


async def scrape(session: ClientSession) -> dict[Sample, float]:
    async with session.get("/metrics") as answer:
        assert answer.status == 200, await answer.text()
        return parsed(await answer.text())


def workers_of(service: Serve) -> list[int]:
    return [pid for pid in children(service.process.pid) if "pickguard serve" in command_of(pid)]


async def test_whichever_worker_is_asked_tells_what_all_have_counted(tmp_path: Path, tokens: list[str]) -> None:
    args = ["--workers", "2", "--admin-listen", "127.0.0.1:0", *tokens]
    async with serving(tmp_path / "data", *args) as service, scraper(service) as session:
        async with service.client() as api:
            assert await api.register() == 201
            token = await api.log_in()
        for _ in range(6):  # on connections of their own, so that both workers get some
            async with service.client() as api:
                assert await api.me(token) == 200
        seen = [await scrape(session) for _ in range(6)]
        assert [found[ME] for found in seen] == [6] * 6
        assert seen[-1][key("pickguard_workers")] == 2
        assert seen[-1][key("pickguard_log_ins_total", outcome="success")] == 1
        assert seen[-1][key("pickguard_hash_duration_seconds_count", purpose="registration")] == 1
        assert await service.stop() == 0


async def test_a_token_that_is_changed_counts_without_a_restart(tmp_path: Path, tokens: list[str]) -> None:
    args = ["--workers", "2", "--admin-listen", "127.0.0.1:0", *tokens]
    async with serving(tmp_path / "data", *args) as service, scraper(service) as session:

        async def statuses(token: str) -> set[int]:
            found = set()
            for _ in range(8):  # on connections of their own, so that both workers get some
                async with session.get("/metrics", headers={"Authorization": f"Bearer {token}"}) as answer:
                    found.add(answer.status)
            return found

        assert (await statuses(SCRAPER), await statuses("n" * 32)) == ({200}, {401})
        new = tmp_path / "new"
        new.write_text(f"prometheus:{'n' * 32}\n")
        new.replace(tmp_path / "metrics-token")
        async with asyncio.timeout(30):
            while (await statuses(SCRAPER), await statuses("n" * 32)) != ({401}, {200}):
                await asyncio.sleep(0.05)
        assert await statuses(OPERATOR) == {200}
        assert await service.stop() == 0


async def test_a_token_in_both_files_keeps_the_service_from_starting(tmp_path: Path, tokens: list[str]) -> None:
    (tmp_path / "metrics-token").write_text(f"{OPERATOR}\n")
    args = ["serve", "--no-tls", "--store", "memory:", "--port", "0", "--admin-listen", "127.0.0.1:0", *tokens]
    status, output, errors = await run_to_end(*args, cwd=tmp_path)
    assert (status, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("pickguard: --metrics-token-file: ")
    assert "is one of --admin-token-file, too" in line


async def test_no_counter_falls_when_a_worker_is_replaced(tmp_path: Path, tokens: list[str]) -> None:
    args = ["--workers", "2", "--admin-listen", f"unix:{tmp_path / 'a.sock'}", *tokens]
    async with serving(tmp_path / "data", *args) as service, scraper(service) as session:
        async with service.client() as api:
            assert await api.register() == 201
            token = await api.log_in()
            for _ in range(4):
                assert await api.me(token) == 200
        before = await scrape(session)
        killed = workers_of(service)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        await until_gone(*killed)
        async with asyncio.timeout(START_SECONDS):
            while len([pid for pid in workers_of(service) if pid not in killed]) < 2:
                await asyncio.sleep(0.05)
        async with service.client() as api:
            assert await api.me(token) == 200
        after = await scrape(session)
        fallen = [
            sample
            for sample, value in before.items()
            if sample[0].startswith("pickguard_") and sample[0].endswith(("_total", "_count", "_sum", "_bucket"))
            if after[sample] < value
        ]
        assert fallen == []
        assert after[ME] == before[ME] + 1 == 5
        assert await service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_unix_socket_is_for_its_owner_and_goes_with_the_service(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    args = ["--admin-listen", f"unix:{path}", "--workers", workers, "--no-tls"]
    async with serving(tmp_path / "data", *args) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with ClientSession("http://any.name", connector=UnixConnector(str(path))) as session:
            async with service.client() as api:
                assert await api.register() == 201
            async with session.get("/admin/v1/users") as answer:  # no token: whoever can connect is the owner, or root
                assert [each["email"] for each in (await answer.json())["users"]] == ["ada@example.com"]
        assert await service.stop() == 0
    assert not path.exists()


async def test_where_others_can_connect_operators_speak_tls(tmp_path: Path, tokens: list[str]) -> None:
    async with serving(tmp_path / "data", "--admin-listen", "0.0.0.0:0", *tokens) as service:
        port = operators_of(service).rpartition(":")[2]
        assert operators_of(service).startswith("https://")
        tls = ssl.create_default_context(cafile=service.certificate)
        async with (
            ClientSession(
                f"https://127.0.0.1:{port}", connector=TCPConnector(ssl=tls), headers={"Authorization": f"Bearer {OPERATOR}"}
            ) as session,
            session.get("/admin/v1/users") as answer,
        ):
            assert answer.status == 200
            assert "Strict-Transport-Security" in answer.headers


async def test_a_service_without_the_option_has_no_such_listener(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as service, service.client() as api:
        assert "operators" not in service.announcement
        for path in ("/metrics", "/admin/v1/users"):
            assert (await api.call("GET", path, token=OPERATOR))[0] == 404


async def test_a_second_service_does_not_take_the_address(tmp_path: Path, tokens: list[str]) -> None:
    async with serving(tmp_path / "data", "--admin-listen", "127.0.0.1:0", *tokens) as service:
        where = operators_of(service).removeprefix("http://")
        status, _, errors = await run_to_end(
            *("serve", "--port", "0", "--data-dir", "other", "--admin-listen", where, *tokens), cwd=tmp_path
        )
        assert status == 1
        port = where.rpartition(":")[2]
        said = f"pickguard: --admin-listen: 127.0.0.1 port {port} is in use by another program; choose another port\n"
        assert errors == said


async def test_tokens_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("short\n")
    args = ["serve", "--port", "0", "--data-dir", "data", "--admin-listen", "127.0.0.1:0", "--admin-token-file", "tokens"]
    status, _, errors = await run_to_end(*args, cwd=tmp_path)
    assert status == 1
    assert errors.startswith("pickguard: --admin-token-file: line 1 of tokens is no token: give at least 32 random characters")
    assert len(errors.splitlines()) == 1


async def test_every_line_of_a_json_log_is_an_object(tmp_path: Path) -> None:
    log = tmp_path / "log"
    args = ["--log-format", "json", "--access-log", "--workers", "2", "--mail", "dir:mail", "--admin-listen", "unix:a.sock"]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pickguard", "serve", "--port", "0", "--data-dir", str(tmp_path / "data"), *args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=clean_environment(),
            cwd=tmp_path,
        )
        assert process.stdout is not None
        announcement = ""
        async with asyncio.timeout(START_SECONDS):
            while "Stop with" not in announcement:
                line = await process.stdout.readline()
                assert line, log.read_text()
                announcement += line.decode()
        service = Serve(process, announcement, tmp_path / "data")
        async with service.client() as api:
            assert await api.register() == 201
            assert (await api.call("POST", "/v1/sessions", {"email": "ada@example.com", "password": "\x1b[2J\u2028"}))[0] == 401
        assert await service.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    told = {line["message"] for line in lines}
    assert {"UserRegistered", "LogInRefused", "request"} <= told
    registered = next(line for line in lines if line["message"] == "UserRegistered")
    assert registered["request_id"] in {line["request_id"] for line in lines if line["message"] == "request"}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_operators_get_the_certificate_that_was_loaded_last(workers: str, tmp_path: Path, tokens: list[str]) -> None:
    pair = development_certificate(tmp_path / "own", "127.0.0.1")
    files = ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), "--workers", workers]
    async with serving(tmp_path / "data", *files, "--admin-listen", "0.0.0.0:0", *tokens) as service:
        port = int(operators_of(service).rpartition(":")[2])
        before = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)
        made = ssl.DER_cert_to_PEM_cert(write_pair(*pair, name="another"))
        service.process.send_signal(signal.SIGHUP)
        shown = {before}
        async with asyncio.timeout(START_SECONDS):
            while shown != {made}:  # any worker may answer, and each loads it in its own time
                shown = {await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10) for _ in range(4)}
        assert made != before
        assert await service.stop() == 0
