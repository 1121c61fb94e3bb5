"""The service as a process: what outlives it, what dies with it, and how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import redis.asyncio

from pickguard.adapters import engine as module
from pickguard.adapters.engine import Engine
from tests.support.engines import PROGRAMS
from tests.support.fakes import GOOD_PASSWORD
from tests.support.redis_servers import free_port
from tests.support.serving import (
    RUN_SECONDS,
    Serve,
    children,
    clean_environment,
    command_of,
    ended,
    engine_of,
    run_to_end,
    serving,
    until_gone,
)


async def test_it_serves_over_tls_on_a_store_of_its_own_and_says_how_to_begin(data_dir: Path) -> None:
    async with serving(data_dir) as service, service.client() as api:
        assert service.base.startswith("https://127.0.0.1:")
        assert (await api.call("GET", "/readyz"))[0] == 200
        assert str(data_dir) in service.announcement
        assert f"{service.base}/account " in service.announcement
        attempt = next(line.strip() for line in service.announcement.splitlines() if line.strip().startswith("curl "))
        command = ["bash", "-c", f"{attempt} --silent --show-error --output /dev/null --write-out '%{{http_code}}'"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=data_dir.parent, check=True)
        assert done.stdout == "201"
        assert await api.me(await api.log_in()) == 200
        assert await service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("program", PROGRAMS)
async def test_what_was_acknowledged_outlives_the_service(data_dir: Path, number: signal.Signals, program: str) -> None:
    path = PROGRAMS[program]
    args = ["--engine", str(path)] if path else []
    async with serving(data_dir, *args) as service, service.client() as api:
        engine = engine_of(service)
        certificate = service.certificate.read_bytes()
        assert await api.register() == 201
        kept, ended = await api.log_in(), await api.log_in()
        assert await api.call("DELETE", "/v1/sessions/current", token=ended) == (204, None)
        await service.stop(number)
    await until_gone(engine)
    async with serving(data_dir, *args) as service, service.client() as api:
        assert await api.me(kept) == 200
        assert await api.me(ended) == 401
        assert await api.register() == 409
        await api.log_in()
        assert service.certificate.read_bytes() == certificate


async def test_the_service_starts_again_at_once_after_it_was_killed(data_dir: Path) -> None:
    for _ in range(3):
        async with serving(data_dir) as service, service.client() as api:
            assert await api.register() in {201, 409}
            await service.stop(signal.SIGKILL)


async def test_the_embedded_store_is_restarted_when_it_is_killed(data_dir: Path) -> None:
    async with serving(data_dir) as service, service.client() as api:
        assert await api.register() == 201
        token = await api.log_in()
        first = engine_of(service)
        os.kill(first, signal.SIGKILL)
        await until_gone(first)
        await api.until_ready()
        assert await api.me(token) == 200
        assert await api.register() == 409
        assert engine_of(service) != first
        second = engine_of(service)
        assert await service.stop() == 0
    await until_gone(second)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_data_outlives_a_killed_redis_and_the_service_finds_it_again(tmp_path: Path, program: str) -> None:
    with Engine(tmp_path / "redis", program=PROGRAMS[program]) as store:
        async with serving(tmp_path / "data", "--store", store.url) as service, service.client() as api:
            assert await api.register() == 201
            token = await api.log_in()
            assert store._process is not None
            store._process.kill()
            store._process.wait()
            status, problem = await api.call("GET", "/readyz")
            assert (status, problem["type"]) == (503, "/problems/store-unavailable")
            assert (await api.call("GET", "/v1/users/me", token=token))[0] == 503
            assert (await api.call("GET", "/livez"))[0] == 200
            assert store.restart_if_dead()
            await api.until_ready()
            assert await api.me(token) == 200
            assert await api.register() == 409


async def test_it_serves_though_nobody_can_be_told_that_it_is_ready(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pickguard", "serve", "--no-tls", "--store", "memory:", "--port", "0"),
        *("--admin-listen", "unix:admin.sock"),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=full,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(full)
    try:
        async with (
            asyncio.timeout(60),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "admin.sock"))) as session,
        ):
            while True:
                assert process.returncode is None
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with session.get("http://localhost/metrics") as answer:
                        assert answer.status == 200
                        break
                await asyncio.sleep(0.02)
        process.terminate()
        _, errors = await process.communicate()
        assert b"Traceback" not in errors
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # Whatever measures the coverage of programs that tests run could not write either, and would say so.
    environment = {name: value for name, value in clean_environment().items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [
            *("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "pickguard"),
            *("serve", "--no-tls", "--port", "0", "--data-dir", "data"),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"pickguard: the data directory data cannot be used: File too large\n"


async def test_two_services_on_one_redis_give_an_address_to_one(tmp_path: Path, valkey: Engine) -> None:
    # Whoever is not first is told so by the store, however long it takes to hash sixteen passwords here.
    patient = ("--hash-wait", "60s", "--request-timeout", "60s", "--store-timeout", "30s")
    async with (
        serving(tmp_path / "one", "--store", valkey.url, *patient) as one,
        serving(tmp_path / "two", "--store", valkey.url, *patient) as two,
        one.client() as first,
        two.client() as second,
    ):
        for number in range(5):
            email = f"user{number}@{tmp_path.name}.example.com".replace("_", "-")
            statuses = await asyncio.gather(*(api.register(email) for api in (first, second) * 8))
            assert sorted(statuses) == [201, *[409] * 15]


@pytest.mark.requirement(32, 41)
@pytest.mark.would_have_caught("supertokens-31")
async def test_a_token_revoked_at_one_service_is_refused_at_the_other_at_once(tmp_path: Path, valkey: Engine) -> None:
    email = f"ada@{tmp_path.name}.example.com".replace("_", "-")
    async with (
        serving(tmp_path / "one", "--store", valkey.url) as one,
        serving(tmp_path / "two", "--store", valkey.url) as two,
        one.client() as first,
        two.client() as second,
    ):
        assert await first.register(email) == 201
        for _ in range(20):
            token = await first.log_in(email)
            assert await second.me(token) == 200
            assert (await first.call("DELETE", "/v1/sessions/current", token=token))[0] == 204
            assert await second.me(token) == 401


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_requests_under_way_end_before_the_service_does(data_dir: Path) -> None:
    patient = ("--store-timeout", "60s", "--request-timeout", "60s", "--shutdown-timeout", "60s")
    async with serving(data_dir, "--no-tls", *patient) as service, service.client() as api:
        engine = engine_of(service)
        os.kill(engine, signal.SIGSTOP)  # what is under way waits for the store, until the test has seen what it is to see
        try:
            registering = asyncio.create_task(api.register())
            # The answer to a later request says that the earlier one has arrived.
            await asyncio.sleep(0)
            while not api.session.connector or not api.session.connector._acquired:
                await asyncio.sleep(0)
            assert (await api.call("GET", "/livez"))[0] == 200
            stopping = asyncio.create_task(service.stop())
            port = int(service.base.rpartition(":")[2])
            while await is_open(port):  # newcomers are turned away meanwhile
                await asyncio.sleep(0.01)
            assert not (await asyncio.wait({registering, stopping}, timeout=1))[0]
        finally:
            os.kill(engine, signal.SIGCONT)
        assert await registering == 201
        assert await stopping == 0
    async with serving(data_dir, "--no-tls") as service, service.client() as api:
        assert await api.register() == 409


async def test_no_request_is_waited_for_where_none_may_take_any_time(tmp_path: Path) -> None:
    patient = ("--store-timeout", "60s", "--request-timeout", "60s", "--shutdown-timeout", "0s")
    with Engine(tmp_path / "redis") as store:
        args = ("--no-tls", "--store", store.url, *patient)
        async with serving(tmp_path / "data", *args) as service, service.client() as api:
            assert await api.register() == 201
            assert store._process is not None
            os.kill(store._process.pid, signal.SIGSTOP)
            try:
                asking = [asyncio.create_task(api.register(f"{number}@example.com")) for number in range(4)]
                await asyncio.wait(asking, timeout=0.5)
                assert await service.stop() == 0
                ended = await asyncio.gather(*asking, return_exceptions=True)
            finally:
                os.kill(store._process.pid, signal.SIGCONT)
            assert all(isinstance(each, aiohttp.ClientConnectionError) for each in ended), ended


async def test_idle_and_half_sent_requests_do_not_keep_the_service_from_ending(data_dir: Path) -> None:
    async with serving(data_dir, "--no-tls", "--store", "memory:") as service, service.client() as api:
        assert (await api.call("GET", "/livez"))[0] == 200
        _, writer = await asyncio.open_connection(*service.base.removeprefix("http://").split(":"))
        writer.write(b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        assert (await api.call("GET", "/livez"))[0] == 200
        assert await service.stop() == 0
        writer.close()


async def test_ctrl_c_ends_the_service_in_order(data_dir: Path) -> None:
    async with serving(data_dir) as service:
        engine = engine_of(service)
        assert await service.stop(signal.SIGINT) == 0
        await until_gone(engine)


def workers_of(service: Serve) -> list[int]:
    return [pid for pid in children(service.process.pid) if "pickguard serve" in command_of(pid)]


async def test_workers_share_a_port_and_a_dead_one_is_replaced(data_dir: Path) -> None:
    async with serving(data_dir, "--workers", "2") as service, service.client() as api:
        first = workers_of(service)
        assert len(first) == 2
        assert await api.register() == 201
        token = await api.log_in()
        os.kill(first[0], signal.SIGKILL)
        await until_gone(first[0])
        async with asyncio.timeout(10):
            while len(set(workers_of(service)) - {first[0]}) < 2:
                await asyncio.sleep(0.02)
        async with service.client() as other:
            await other.until_ready()
            assert await other.me(token) == 200
        present = workers_of(service)
        assert await service.stop() == 0
        await until_gone(*present)


PATIENT = ("--store-connect-timeout", "20s", "--store-timeout", "20s")
"""For workers that must not fail to start, however busy the machine is."""
GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(service: Serve, count: int) -> list[socket.socket]:
    """Return connections that the kernel has made, whether or not anybody accepts them."""
    host, port = service.base.partition("://")[2].split(":")
    return [socket.create_connection((host, int(port))) for _ in range(count)]


async def ask(connected: socket.socket, service: Serve) -> bytes:
    """Send a request on a connection, and return the first line of the answer."""
    tls = ssl.create_default_context(cafile=service.certificate) if service.base.startswith("https") else None
    reader, writer = await asyncio.open_connection(sock=connected, ssl=tls, server_hostname="127.0.0.1" if tls else None)
    writer.write(GET_LIVEZ)
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    return line


def listeners_at(service: Serve) -> int:
    """Return how many sockets listen at a service's port (Linux)."""
    port = int(service.base.rpartition(":")[2])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A")


async def freeze(pid: int) -> None:
    """Stop a process where it stands."""
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            await asyncio.sleep(0.01)


async def until_pending(pid: int, number: signal.Signals) -> None:
    """Wait until a stopped process has been sent a signal."""
    async with asyncio.timeout(10):
        while True:
            status = Path(f"/proc/{pid}/status").read_text()
            pending = next(line for line in status.splitlines() if line.startswith("ShdPnd")).split()[1]
            if int(pending, 16) & 1 << (number - 1):
                return
            await asyncio.sleep(0.01)


async def test_each_worker_listens_and_what_waits_for_one_that_dies_is_answered_by_the_next(data_dir: Path) -> None:
    async with serving(data_dir, "--workers", "2", "--no-tls", *PATIENT) as service:
        assert listeners_at(service) == 2
        dying = workers_of(service)[0]
        await freeze(dying)
        connected = connect(service, 40)  # of which some are with that worker, but for one time in 10^12
        for each in connected:
            each.sendall(GET_LIVEZ)
        os.kill(dying, signal.SIGKILL)
        for each in connected:
            assert (await ask(each, service)).startswith(b"HTTP/1.1 200 ")
        assert listeners_at(service) == 2
        assert await service.stop() == 0


@pytest.mark.parametrize("tls", [[], ["--no-tls"]], ids=["tls", "plain"])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_who_has_connected_is_answered_before_the_service_ends(data_dir: Path, workers: str, tls: list[str]) -> None:
    async with serving(data_dir, "--workers", workers, *tls) as service:
        serving_processes = workers_of(service) or [service.process.pid]
        assert len(serving_processes) == int(workers)
        for pid in serving_processes:
            await freeze(pid)
        connected = connect(service, 40)
        stopping = asyncio.create_task(service.stop())
        for pid in serving_processes:
            await until_pending(pid, signal.SIGTERM)
        for pid in serving_processes:
            os.kill(pid, signal.SIGCONT)
        answers = await asyncio.gather(*(ask(each, service) for each in connected))
        assert {line[:13] for line in answers} == {b"HTTP/1.1 200 "}
        assert await stopping == 0


async def test_who_has_connected_and_says_nothing_does_not_keep_the_service_from_ending(data_dir: Path) -> None:
    async with serving(data_dir, "--no-tls", "--shutdown-timeout", "10m", "--store", "memory:") as service:
        await freeze(service.process.pid)
        silent = connect(service, 1)
        stopping = asyncio.create_task(service.stop())
        await until_pending(service.process.pid, signal.SIGTERM)
        os.kill(service.process.pid, signal.SIGCONT)
        assert await stopping == 0
        silent[0].close()


async def test_a_worker_that_cannot_be_replaced_takes_no_connections(tmp_path: Path) -> None:
    with Engine(tmp_path / "redis") as store:
        args = ("--workers", "2", "--store", store.url, "--no-tls")
        async with serving(tmp_path / "data", *args) as service:
            assert store._process is not None
            store._process.kill()
            store._process.wait()
            os.kill(workers_of(service)[0], signal.SIGKILL)
            assert service.process.stderr is not None
            async with asyncio.timeout(20):
                while b"ended with status 1" not in (line := await service.process.stderr.readline()):
                    assert line
            for each in connect(service, 40):
                assert (await ask(each, service)).startswith(b"HTTP/1.1 200 ")


async def test_workers_and_store_die_with_a_killed_supervisor(data_dir: Path) -> None:
    async with serving(data_dir, "--workers", "2") as service:
        family = children(service.process.pid)
        assert len(family) >= 4  # two workers, the store and its guard
        service.process.kill()
        await until_gone(*family)
    async with serving(data_dir) as service:
        assert await service.stop() == 0


async def test_a_very_long_path_of_the_data_directory_works(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120) / "data"
    long.parent.mkdir()
    async with serving(long) as service, service.client() as api:
        assert await api.register() == 201
        assert await service.stop() == 0


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "ä b"])
async def test_any_name_of_the_data_directory_works(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path / name) as service, service.client() as api:
        assert await api.register() == 201
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
        assert await service.stop() == 0


async def test_an_engine_named_with_a_slash_is_that_file_and_no_other(data_dir: Path) -> None:
    program = data_dir.with_name("my-engine")
    program.symlink_to(module.packaged_program())
    async with serving(data_dir, "--engine", "./my-engine") as service, service.client() as api:
        assert await api.register() == 201
        assert await service.stop() == 0


async def test_workers_come_back_after_an_outage_of_the_store(tmp_path: Path) -> None:
    with Engine(tmp_path / "redis") as store:
        args = ("--workers", "2", "--store", store.url, "--no-tls")
        async with serving(tmp_path / "data", *args) as service, service.client() as api:
            assert await api.register() == 201
            assert store._process is not None
            store._process.kill()
            store._process.wait()
            lost, left = workers_of(service)
            os.kill(lost, signal.SIGKILL)
            await until_gone(lost)
            async with asyncio.timeout(20):  # one that takes its place has tried in vain
                while not set(workers_of(service)) - {left}:
                    await asyncio.sleep(0.02)
            assert store.restart_if_dead()
            await api.until_ready()
            async with asyncio.timeout(20):
                while len(workers_of(service)) < 2:
                    await asyncio.sleep(0.02)
            assert await service.stop() == 0


TOLD_AT_ONCE = """
import os, signal
from pickguard.__main__ import main

fork = os.fork

def fork_and_tell():
    heard, told = os.pipe()
    pid = fork()
    if pid:
        os.kill(pid, signal.SIGTERM)
    os.close(told)
    if not pid:
        os.read(heard, 1)  # until it was told, however late
        if signal.SIGTERM not in signal.sigpending():
            os.write(1, b"Python got it, and may have forgotten it")
            os._exit(3)
    os.close(heard)
    return pid

os.fork = fork_and_tell
main()
"""


async def test_a_worker_that_is_told_to_stop_in_the_moment_of_its_birth_ends(data_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            TOLD_AT_ONCE,
            "serve",
            "--no-tls",
            "--port",
            "0",
            "--workers",
            "2",
            "--data-dir",
            str(data_dir),
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    output, errors = await ended(process)
    assert (process.returncode, output) == (1, b"")
    assert b"a worker ended before it was ready" in errors


async def test_a_store_restarted_under_workers_listens_to_signals(data_dir: Path) -> None:
    async with serving(data_dir, "--workers", "2") as service, service.client() as api:
        first = engine_of(service)
        os.kill(first, signal.SIGKILL)
        await until_gone(first)
        await api.until_ready()
        status = Path(f"/proc/{engine_of(service)}/status").read_text()
        assert next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1].strip("0") == ""
        assert await service.stop() == 0


async def test_environment_variables_configure_it(data_dir: Path) -> None:
    environment = {f"PICKGUARD_{name}": "on" for name in ("NO_TLS", "NO_PAGES")}
    environment |= {"PICKGUARD_STORE": "memory:", "PICKGUARD_RATE_LIMITS": "off"}
    async with serving(data_dir, environment=environment) as service, service.client() as api:
        assert service.base.startswith("http://")
        assert await api.register() == 201
        assert "in memory only" in service.announcement
        assert "/account" not in service.announcement
    assert not data_dir.exists()


@pytest.mark.requirement(53, 63)
async def test_plain_http_to_the_tls_port_is_not_answered(data_dir: Path) -> None:
    # ASVS 4.1.2: nor sent elsewhere, since a client that is would go on to send its secrets in the clear first.
    async with serving(data_dir, "--store", "memory:") as service:
        port = int(service.base.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert b"HTTP/1.1 3" not in answer
        assert b"200" not in answer
        writer.close()


@pytest.mark.requirement(62)
async def test_old_protocols_and_suites_are_not_spoken(data_dir: Path) -> None:
    # ASVS 12.1.1, 12.1.2
    async with serving(data_dir, "--store", "memory:") as service:
        port = int(service.base.rpartition(":")[2])
        modern = ssl.create_default_context(cafile=service.certificate)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=modern)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        for ciphers in ("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA", "kRSA", "AES256-GCM-SHA384"):
            old = ssl.create_default_context(cafile=service.certificate)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            old.set_ciphers(f"{ciphers}:@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await asyncio.open_connection("127.0.0.1", port, ssl=old)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
async def test_a_tls_session_is_resumed_by_every_worker(data_dir: Path, valkey: Engine, version: ssl.TLSVersion) -> None:
    async with serving(data_dir, "--store", valkey.url, "--workers", "2", *PATIENT) as service:
        client = ssl.create_default_context(cafile=service.certificate)
        client.minimum_version = client.maximum_version = version

        def talk(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
            (connected,) = connect(service, 1)
            connected.settimeout(20)
            with client.wrap_socket(connected, server_hostname="127.0.0.1", session=session) as connection:
                connection.sendall(GET_LIVEZ)
                assert connection.recv(13) == b"HTTP/1.1 200 "
                assert connection.session is not None
                return bool(connection.session_reused), connection.session

        reused, session = await asyncio.to_thread(talk, None)
        assert not reused
        for each in workers_of(service):  # those that know the session are gone then
            reused, _ = await asyncio.to_thread(talk, session)
            assert reused
            os.kill(each, signal.SIGKILL)
            await until_gone(each)
        for _ in range(8):
            reused, _ = await asyncio.to_thread(talk, session)
            assert reused
        assert await service.stop() == 0


# What cannot start says so in one line.


async def refused(tmp_path: Path, *args: str, environment: dict[str, str] | None = None) -> str:
    status, output, errors = await run_to_end("serve", *args, environment=environment, cwd=tmp_path)
    assert status != 0
    assert output == ""
    assert errors.count("\n") == 1, errors
    assert errors.startswith("pickguard: ")
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--port", "many"], "--port"),
        (["--port", "65536"], "--port"),
        (["--prot", "1"], "--prot"),
        (["--port"], "--port"),
        (["surplus"], "surplus"),
        (["--workers", "0"], "--workers"),
        (["--workers", "2", "--store", "memory:"], "--workers"),
        (["--store", "mysql://localhost"], "--store"),
        (["--store", "redis://"], "--store"),
        (["--store", "redis://localhost:port"], "--store"),
        (["--store", "redis://localhost/first"], "--store"),
        (["--store", "redis://localhost?ssl_ca_certs=/x"], "--store"),
        (["--store", "redis://localhost?decode_responses=yes"], "--store"),
        (["--workers", "2", "--store", "redis://127.0.0.1:1", "--no-tls", "--port", "0"], "cannot be reached"),
        (["--engine", "no-such-program"], "--engine"),
        (["--tls-cert", "cert.pem"], "--tls-key"),
        (["--tls-cert", "none.pem", "--tls-key", "none.pem"], "none.pem"),
        (["--no-tls", "--tls-cert", "c", "--tls-key", "k"], "--no-tls"),
        (["--rate-limits", "maybe"], "--rate-limits"),
        (["--host", "no such host"], "--host"),
        (["--host", "192.0.2.1", "--port", "0"], "192.0.2.1"),
        (["--engine", "/bin/true", "--port", "0"], "ended at once"),
        (["--engine", "/no/such/program", "--port", "0"], "/no/such/program"),
        (["--data-dir", "/proc/nowhere", "--port", "0"], "/proc/nowhere"),
        (["--store", "redis://127.0.0.1:1", "--no-tls", "--port", "0"], "cannot be reached"),
        (["--store", "unix:///no/such.sock", "--no-tls", "--port", "0"], "cannot be reached"),
    ],
    ids=" ".join,
)
async def test_a_bad_option_is_said_in_one_line(tmp_path: Path, args: list[str], words: str) -> None:
    assert words in await refused(tmp_path, *args)


async def test_a_bad_variable_is_said_in_one_line(tmp_path: Path) -> None:
    assert "PICKGUARD_PORT" in await refused(tmp_path, environment={"PICKGUARD_PORT": "x"})


async def test_an_unreadable_certificate_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("not a certificate")
    errors = await refused(tmp_path, "--port", "0", "--tls-cert", "bad.pem", "--tls-key", "bad.pem")
    assert "bad.pem" in errors


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_in_use_is_said_in_one_line(data_dir: Path, tmp_path: Path, valkey: Engine, workers: str) -> None:
    args = ("--store", valkey.url, "--no-tls", "--workers")
    async with serving(data_dir, *args, workers) as service:
        port = service.base.rpartition(":")[2]
        for others in ("1", "2"):
            assert "in use" in await refused(tmp_path, *args, others, "--port", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_no_other_program_gets_the_port_of_several_workers(data_dir: Path, valkey: Engine, host: str) -> None:
    async with serving(data_dir, "--store", valkey.url, "--no-tls", "--workers", "2") as service:
        port = int(service.base.rpartition(":")[2])
        for pid in (None, *workers_of(service)):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                await until_gone(pid)
            for shares in (False, True):
                with socket.socket() as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shares)
                    with pytest.raises(OSError, match="in use"):  # at once, and not only when it listens
                        other.bind((host, port))


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_that_waits_for_its_store_has_its_port(data_dir: Path, tmp_path: Path, workers: str) -> None:
    port = str(free_port())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        args = ("--store", f"redis://127.0.0.1:{silent.getsockname()[1]}", "--no-tls", "--port", port, "--workers")
        waiting = asyncio.create_task(Serve.start(data_dir, *args, workers, "--store-timeout", "1m"))
        async with asyncio.timeout(10):
            asked, _ = await asyncio.get_running_loop().sock_accept(silent)
        for others in ("1", "2"):
            assert "in use" in await refused(tmp_path, *args, others)
        assert not waiting.done()
        asked.close()
    with pytest.raises(AssertionError, match="cannot be reached"):
        await waiting


async def test_several_workers_get_their_port_again_at_once(data_dir: Path, valkey: Engine) -> None:
    args = ("--store", valkey.url, "--no-tls", "--workers", "2")
    async with serving(data_dir, *args) as service, service.client() as api:
        assert (await api.call("GET", "/livez"))[0] == 200
        assert await service.stop() == 0  # it closes the connection first, which the kernel therefore remembers
        async with serving(data_dir, *args, "--port", service.base.rpartition(":")[2]) as again, again.client() as other:
            assert again.base == service.base
            assert (await other.call("GET", "/livez"))[0] == 200
            assert await again.stop() == 0


async def test_a_data_directory_in_use_is_said_in_one_line(data_dir: Path, tmp_path: Path) -> None:
    async with serving(data_dir) as service, service.client() as api:
        errors = await refused(tmp_path, "--port", "0", "--data-dir", str(data_dir))
        assert "in use by another instance" in errors
        assert str(service.process.pid) in errors
        assert (await api.call("GET", "/readyz"))[0] == 200


async def test_a_wrong_password_of_redis_is_said_in_one_line_without_it(tmp_path: Path) -> None:
    with Engine(tmp_path / "redis") as store:
        async with redis.asyncio.Redis(unix_socket_path=str(store.socket_path)) as client:
            await client.config_set("requirepass", "right-password")
        for url in (store.url, store.url.replace("unix://", "unix://:wrong-secret@")):
            errors = await refused(tmp_path, "--port", "0", "--no-tls", "--store", url)
            assert "password" in errors
            assert "wrong-secret" not in errors


async def test_the_password_of_redis_is_never_shown(tmp_path: Path) -> None:
    errors = await refused(tmp_path, "--port", "0", "--no-tls", "--store", f"redis://user:{GOOD_PASSWORD[:7]}@127.0.0.1:1/0")
    assert GOOD_PASSWORD[:7] not in errors


@pytest.mark.requirement(75, 76)
async def test_events_are_lines_of_json_that_name_the_request_and_no_secret(data_dir: Path) -> None:
    canary = "this phrase is logged nowhere"
    request_id = "019b7d1f-2a0e-4000-8000-00000000000a"
    async with serving(data_dir, "--store", "memory:", "--no-tls", "--access-log") as service:
        async with service.client() as api:
            body = {"name": "Ada", "email": "ada@example.com", "password": canary}
            assert (await api.call("POST", "/v1/users", body))[0] == 201
            token = (await api.call("POST", "/v1/sessions", {"email": "ada@example.com", "password": canary}))[1][
                "access_token"
            ]
            wrong = {"email": "ada@example.com", "password": f"not {canary}\n{{}}\x1b"}
            headers = {"X-Request-ID": request_id, "User-Agent": f"agent {token}"}
            async with api.session.post("/v1/sessions", json=wrong, headers=headers) as response:
                assert response.status == 401
            for path in (f"/v1/users/me?access_token={token}", f"/v1/sessions/{token}"):
                await api.call("DELETE", path, token=token)
        service.process.send_signal(signal.SIGTERM)
        _, errors = await service.process.communicate()
    lines = errors.decode().splitlines()
    assert all(line.isprintable() for line in lines)
    for secret in (canary, token, token[3:67]):
        assert secret not in errors.decode()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [event["event"] for event in events] == ["UserRegistered", "SessionOpened", "LogInRefused", "UserDeleted"]
    (refused,) = (event for event in events if event["event"] == "LogInRefused")
    assert refused == {
        "event": "LogInRefused",
        "time": refused["time"],
        "outcome": "failure",
        "request_id": request_id,
        "subject": events[0]["subject"],
        "source": "127.0.0.1",
    }
