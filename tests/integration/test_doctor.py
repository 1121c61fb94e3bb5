"""`pickguard doctor` as its users run it, on stores of every kind and in every state."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import pytest

from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.encoding import claim_key, encode_claim
from pickguard.entrypoints.doctor import EXPLANATIONS
from pickguard.ports.checkup import Kind
from tests.support.accounts import an_account, operation
from tests.support.engines import PROGRAMS
from tests.support.faults import Proxy
from tests.support.redis_servers import Server
from tests.support.serving import clean_environment, engine_of, run_to_end, serving, until_gone
from tests.support.topologies import Cluster, Replicated, Sentinels, until

PASSWORD: Final = "s3cret-that-nobody-may-see"
SECOND: Final = timedelta(seconds=1)


class Seen:
    """How the doctor ended, and what it said."""

    def __init__(self, status: int, output: str, errors: str) -> None:
        self.status = status
        self.output = output
        self.errors = errors
        assert "Traceback" not in output + errors
        assert PASSWORD not in output + errors

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.output)
        return document

    @property
    def verdicts(self) -> dict[str, str]:
        """The findings that are not well."""
        return {each["id"]: each["verdict"] for each in self.document["findings"] if each["verdict"] != "ok"}


async def doctor(cwd: Path, *args: str, environment: Mapping[str, str] | None = None) -> Seen:
    return Seen(*await run_to_end("doctor", *args, environment={"COLUMNS": "140", **(environment or {})}, cwd=cwd))


async def refusal(cwd: Path, *args: str, status: int = 1) -> str:
    seen = await doctor(cwd, *args)
    assert (seen.status, seen.output) == (status, "")
    (line,) = seen.errors.splitlines()
    assert line.startswith("pickguard: ")
    return line


async def register(url: str, *emails: str) -> None:
    async with open_client(url, connections=4, connect_timeout=5 * SECOND, command_timeout=5 * SECOND) as client:
        for email in emails:
            await RedisAccounts(client).add(an_account(email, sessions=1), operation=operation())


# The embedded store.


async def test_it_looks_at_the_embedded_store_beside_the_service_and_without_it(data_dir: Path) -> None:
    cwd = data_dir.parent
    async with serving(data_dir, "--no-tls") as service, service.client() as api:
        assert await api.register() == 201
        running = engine_of(service)
        beside = await doctor(cwd, "--data-dir", str(data_dir), "--json")
        assert (beside.status, beside.errors) == (0, "")
        assert engine_of(service) == running
        assert await service.stop() == 0
    await until_gone(running)
    alone = await doctor(cwd, "--data-dir", str(data_dir), "--json")
    assert (alone.status, alone.errors) == (0, "")
    for seen in (beside, alone):
        assert seen.document["inspection"]["accounts"] == seen.document["inspection"]["claims"] == 1
        assert seen.document["verdict"] == "ok"
        assert str(data_dir) in seen.document["store"]
    async with serving(data_dir, "--no-tls") as service, service.client() as api:  # nothing of the doctor's is in its way
        assert await api.register() == 409


async def test_it_finds_an_embedded_store_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long" * 20) / ("longer" * 10) / "data"
    data_dir.parent.mkdir(parents=True)
    async with serving(data_dir, "--no-tls"):
        assert (await doctor(tmp_path, "--data-dir", str(data_dir))).status == 0
    assert (await doctor(tmp_path, "--data-dir", str(data_dir))).status == 0


async def test_where_there_is_no_embedded_store_none_is_made(tmp_path: Path) -> None:
    line = await refusal(tmp_path, "--data-dir", str(tmp_path / "typo"))
    assert "no embedded store" in line
    (tmp_path / "empty").mkdir()
    assert "no embedded store" in await refusal(tmp_path, "--data-dir", str(tmp_path / "empty"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


# What it says.


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_store_that_is_well_is_told_to_be(tmp_path: Path, program: str) -> None:
    async with Server(
        tmp_path / "server", program=PROGRAMS[program], password=PASSWORD, options={"requirepass": PASSWORD}
    ) as server:
        await register(server.url, "ada@example.com", "grace@example.com")
        seen = await doctor(tmp_path, "--store", server.url)
        assert (seen.status, seen.errors) == (0, "")
        assert server.address in seen.output
        assert seen.output.splitlines()[-1] == "All is well."
        assert "A write is on disk before it is acknowledged." in seen.output
        assert "One verification takes" in seen.output
        assert "this machine" not in seen.output  # with one server, all is of one place
        by_file = tmp_path / "password"
        by_file.write_text(f"{PASSWORD}\n")
        strict = await doctor(
            tmp_path,
            *("--store", f"redis://{server.address}", "--store-password-file", str(by_file), "--strict-durability", "--json"),
        )
        assert strict.status == 0
        assert strict.document["format"] == 1
        assert strict.document["store"] == f"redis://{server.address}"
        assert strict.document["error"] is None
        assert strict.document["inspection"]["sessions"] == 2
        # The server is new, so no last rewrite is told to have gone well.
        assert {each["verdict"] for each in strict.document["findings"]} == {"ok"}
        assert {tuple(each) for each in strict.document["findings"]} == {
            ("id", "where", "verdict", "found", "advice", "durability")
        }


@pytest.mark.parametrize("program", PROGRAMS)
async def test_warnings_alone_are_no_failure_unless_it_is_strict(tmp_path: Path, program: str) -> None:
    async with Server(tmp_path / "server", {"appendfsync": "everysec"}, program=PROGRAMS[program]) as server:
        lax = await doctor(tmp_path, "--store", server.url, "--json")
        assert (lax.status, lax.verdicts) == (0, {"appendfsync": "warning"})
        strict = await doctor(tmp_path, "--store", server.url, "--json", environment={"PICKGUARD_STRICT_DURABILITY": "on"})
        assert (strict.status, strict.verdicts) == (3, {"appendfsync": "warning"})
        shown = await doctor(tmp_path, "--store", server.url)
        assert "Set appendfsync always." in shown.output
        assert shown.output.splitlines()[-1] == "There are warnings."


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_dangerous_store_is_a_failure(tmp_path: Path, program: str) -> None:
    options = {"appendonly": "no", "maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"}
    async with Server(tmp_path / "server", options, program=PROGRAMS[program]) as server:
        seen = await doctor(tmp_path, "--store", server.url, "--json", "--no-scan")
        assert (seen.status, seen.document["verdict"]) == (3, "danger")
        assert seen.verdicts == {"appendonly": "danger", "maxmemory-policy": "danger"}
        assert seen.document["inspection"] is None
        shown = await doctor(tmp_path, "--store", server.url, "--no-scan")
        assert shown.status == 3
        assert "Set appendonly yes and appendfsync always." in shown.output
        assert "accounts  " not in shown.output
        assert shown.output.splitlines()[-1] == "Something is wrong."


@pytest.mark.parametrize("program", PROGRAMS)
async def test_the_service_refuses_when_it_is_strict_what_the_doctor_tells(tmp_path: Path, program: str) -> None:
    async with Server(tmp_path / "server", {"appendfsync": "everysec"}, program=PROGRAMS[program]) as server:
        arguments = ("serve", "--port", "0", "--no-tls", "--store", server.url, "--strict-durability")
        status, output, errors = await run_to_end(*arguments, cwd=tmp_path)
        assert (status, output) == (1, "")
        assert "A power cut loses" in errors.splitlines()[-1]
        async with serving(tmp_path / "data", "--store", server.url, "--no-tls") as service:
            assert await service.stop() == 0
        async with server.client() as direct:
            await direct.config_set("appendfsync", "always")
        async with serving(tmp_path / "data", "--store", server.url, "--no-tls", "--strict-durability") as service:
            assert await service.stop() == 0


@pytest.mark.parametrize("program", PROGRAMS)
async def test_lost_claims_are_a_failure_until_they_are_repaired(tmp_path: Path, program: str) -> None:
    async with Server(tmp_path / "server", program=PROGRAMS[program]) as server, server.client() as direct:
        await register(server.url, "ada@example.com", "grace@example.com")
        await direct.delete(claim_key("pg", "ada@example.com"))
        await direct.set(
            claim_key("pg", "gone@example.com"), encode_claim(an_account().user.id, operation(), 1_700_000_000_000)
        )
        await direct.set("another", "program's")
        seen = await doctor(tmp_path, "--store", server.url)
        assert seen.status == 3
        assert "accounts without the claim on their address" in seen.output
        assert "keys of other programs" in seen.output
        assert "ada@example.com" not in seen.output
        repaired = await doctor(tmp_path, "--store", server.url, "--repair", "--json")
        assert (repaired.status, repaired.document["verdict"]) == (0, "ok")
        assert repaired.document["inspection"]["repaired"] == {"missing-claim": 1, "orphan-claim": 1}
        assert {each["kind"] for each in repaired.document["inspection"]["irregularities"]} == {"missing-claim", "orphan-claim"}
        after = await doctor(tmp_path, "--store", server.url, "--strict-durability")
        assert after.status == 0
        assert "Every account is whole" in after.output


async def test_what_cannot_be_repaired_stays_a_failure_and_harmless_orphans_are_none(tmp_path: Path) -> None:
    async with Server(tmp_path / "server") as server, server.client() as direct:
        await direct.set(
            claim_key("pg", "gone@example.com"), encode_claim(an_account().user.id, operation(), 1_700_000_000_000)
        )
        assert (await doctor(tmp_path, "--store", server.url)).status == 0
        await direct.set("pg:unheard\x1b[31mof", "1")
        seen = await doctor(tmp_path, "--store", server.url, "--repair")
        assert seen.status == 3
        assert "\x1b" not in seen.output
        assert "1, repaired 1" in seen.output


def test_every_kind_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Kind)


# Stores of many servers.


async def test_replicas_are_examined_with_their_master(tmp_path: Path) -> None:
    async with Replicated(tmp_path / "store", options={"min-replicas-to-write": "1"}) as store:
        seen = await doctor(tmp_path, "--store", store.url, "--json", "--strict-durability", "--wait-replicas", "1")
        assert (seen.status, seen.verdicts) == (0, {})
        assert {each["where"] for each in seen.document["findings"]} == {
            *(server.address for server in store.servers),
            "all servers",
            "this machine",
        }
        too_many = await doctor(tmp_path, "--store", store.url, "--json", "--wait-replicas", "2", "--no-scan")
        assert (too_many.status, too_many.verdicts) == (3, {"replicas": "danger"})
        by_replica = await doctor(tmp_path, "--store", store.replicas[0].url, "--json", "--no-scan")
        assert (by_replica.status, by_replica.verdicts) == (3, {"role": "danger"})
        shown = await doctor(tmp_path, "--store", store.url)
        assert "all 2 servers" in shown.output
        assert "this machine" in shown.output
        store.replicas[0].freeze()
        frozen = await doctor(tmp_path, "--store", store.url, "--json", "--no-scan")
        assert frozen.verdicts["reachable"] == "warning"
        assert "Cancelled" not in frozen.output


async def test_sentinels_are_examined(tmp_path: Path) -> None:
    async with Sentinels(tmp_path / "store", options={"min-replicas-to-write": "1"}) as store:
        await register(store.url, "ada@example.com")

        async def is_well() -> bool:  # at first the sentinels still set the replicas up
            return (await doctor(tmp_path, "--store", store.url, "--json", "--strict-durability")).verdicts == {}

        await until(is_well, "the doctor finds all well")
        for sentinel in store.sentinels[1:]:
            sentinel.kill()
        seen = await doctor(tmp_path, "--store", store.url, "--json")
        assert seen.verdicts.items() >= {"sentinels": "warning"}.items()
        assert "sentinel" in seen.verdicts
        assert seen.document["inspection"]["accounts"] == 1


async def test_a_cluster_is_examined_and_repaired(tmp_path: Path) -> None:
    async with Cluster(tmp_path / "store", options={"min-replicas-to-write": "1"}) as store:
        emails = [f"user{number}@example.com" for number in range(12)]
        await register(store.url, *emails)
        well = await doctor(tmp_path, "--store", store.url, "--json", "--strict-durability")
        assert (well.status, well.verdicts) == (0, {})
        assert well.document["inspection"]["accounts"] == len(emails)
        for email in emails:
            server = await store.owner(claim_key("pg", email))
            async with server.client() as direct:
                await direct.delete(claim_key("pg", email))
        repaired = await doctor(tmp_path, "--store", store.url, "--json", "--repair")
        assert (repaired.status, repaired.document["inspection"]["repaired"]) == (0, {"missing-claim": len(emails)})
        assert "redis+cluster://" in await refusal(tmp_path, "--store", f"redis://{store.servers[0].address}")


# When it cannot look.


async def test_a_store_that_is_not_there_or_lets_nobody_in_is_told_in_a_line(tmp_path: Path) -> None:
    assert "cannot be reached" in await refusal(tmp_path, "--store", "redis://127.0.0.1:1")
    assert "cannot be reached" in await refusal(tmp_path, "--store", f"unix://{tmp_path}/nothing.sock")
    assert "cannot be reached" in await refusal(tmp_path, "--store", "redis+sentinel://127.0.0.1:1/accounts")
    assert "cannot be reached" in await refusal(tmp_path, "--store", "redis+cluster://127.0.0.1:1")
    async with Server(tmp_path / "server", {"requirepass": "another"}, password="another") as server:
        assert "password" in await refusal(tmp_path, "--store", f"redis://:{PASSWORD}@{server.address}")
        assert "password" in await refusal(tmp_path, "--store", f"redis://ada:{PASSWORD}@{server.address}")
        assert "password" in await refusal(tmp_path, "--store", f"redis://{server.address}")
        assert "cannot be reached" in await refusal(tmp_path, "--store", f"rediss://{server.address}")


async def test_a_program_that_is_no_store_is_told_in_a_line(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await refusal(tmp_path, "--store", f"redis://127.0.0.1:{port}")


async def test_a_user_that_may_not_look_at_keys_is_told_what_is_missing_after_what_could_be_seen(tmp_path: Path) -> None:
    async with Server(tmp_path / "server") as server, server.client() as direct:
        await direct.execute_command("ACL", "SETUSER", "ada", "on", f">{PASSWORD}", "~pg:*", "+ping", "+info", "+time")  # type: ignore[no-untyped-call]
        url = f"redis://ada:{PASSWORD}@{server.address}"
        seen = await doctor(tmp_path, "--store", url, "--json")
        assert seen.status == 1
        assert seen.verdicts == {"appendfsync": "unknown", "no-appendfsync-on-rewrite": "unknown"}
        assert seen.document["inspection"] is None
        assert "+scan" in seen.document["error"]
        assert "+scan" in seen.errors
        servers_only = await doctor(tmp_path, "--store", url, "--no-scan")
        assert servers_only.status == 0
        assert servers_only.output.splitlines()[-1] == "Not all could be seen."
        assert (await doctor(tmp_path, "--store", url, "--no-scan", "--strict-durability")).status == 3


async def test_options_that_make_no_sense_are_misuse(tmp_path: Path) -> None:
    await refusal(tmp_path, "--store", "memory:", status=2)
    await refusal(tmp_path, "--repair", "--no-scan", status=2)
    await refusal(tmp_path, "--store", "http://example.com", status=2)
    await refusal(tmp_path, "--port", "1", status=2)


# At a terminal.


class Terminal:
    """The doctor in front of a person: its errors go to a terminal, its output to a pipe."""

    def __init__(self, cwd: Path, *args: str) -> None:
        self._cwd = cwd
        self._args = args
        self.shown = b""

    async def __aenter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pickguard", "doctor", *self._args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=theirs,
            env={**clean_environment(), "TERM": "xterm"},
            cwd=self._cwd,
        )
        os.close(theirs)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self._ours)

    def look(self) -> bytes:
        """Return all that the terminal has been shown by now."""
        try:
            while part := os.read(self._ours, 65536):
                self.shown += part
        except OSError:  # nothing more for now, or the end
            pass
        return self.shown


async def test_a_person_is_shown_how_far_it_is_and_a_program_is_not(tmp_path: Path) -> None:
    with Engine(tmp_path / "store") as store:
        await register(store.url, "ada@example.com")
        async with Terminal(tmp_path, "--store", store.url, "--json") as terminal:
            output, _ = await terminal.process.communicate()
            assert b"Looking at keys" in terminal.look()
            assert terminal.process.returncode == 0
            assert json.loads(output)["verdict"] == "ok"
        seen = await doctor(tmp_path, "--store", store.url)
        assert seen.errors == ""


@pytest.mark.parametrize("command", [b"PING", b"INFO", b"SCAN"])
async def test_ctrl_c_ends_it_without_many_words(tmp_path: Path, command: bytes) -> None:
    with Engine(tmp_path / "store") as store:
        proxy = Proxy(store.socket_path)
        proxy.freeze = lambda sent: command in sent
        path = tmp_path / "proxy.sock"
        async with (
            proxy.listening(path),
            Terminal(tmp_path, "--store", f"unix://{path}", "--store-timeout", "60s") as terminal,
        ):
            async with asyncio.timeout(30):
                while not proxy.frozen:
                    await asyncio.sleep(0.01)
            # Pressed again where nothing happens: on Python 3.11, asyncio.wait_for, which redis-py sends with, loses one that
            # comes in the very moment in which the command is sent (python/cpython#86296, mended in 3.12).
            for _ in range(6):
                terminal.process.send_signal(signal.SIGINT)
                ended = asyncio.ensure_future(terminal.process.wait())
                if (await asyncio.wait([ended], timeout=5))[0]:
                    break
                ended.cancel()
            async with asyncio.timeout(30):
                output, _ = await terminal.process.communicate()
            assert terminal.process.returncode == 130
            assert b"Traceback" not in terminal.look()
            assert output == b""
