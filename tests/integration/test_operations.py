"""docs/operations.md does what it says: its configurations are started, its commands run, and no message is missing in it."""

import ast
import asyncio
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from email.headerregistry import Address
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import redis.asyncio

from pickguard import Settings, open_services
from pickguard.adapters.engine import Engine
from pickguard.adapters.mail.rendering import STEMS, Renderer, samples
from pickguard.domain.model import events
from pickguard.entrypoints.doctor import TOPICS
from pickguard.entrypoints.http.problems import NOT_REPLICATED, TYPES, UNKNOWN_OUTCOME
from pickguard.entrypoints.tls import development_certificate, server_context
from pickguard.ports.checkup import Kind
from tests.integration.test_acl import COMMANDS, described, for_sentinels
from tests.support.faults import age_claims, broken_invariants
from tests.support.processes import run
from tests.support.redis_servers import Server, ServerError, free_port
from tests.support.serving import Api, Serve, ended, run_to_end, serving
from tests.support.smtp import PASSWORD, Mailbox, mail_server
from tests.support.topologies import Replicated, ask, info, until, until_in_sync

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "docs/operations.md").read_text()
SOURCE: Final = ROOT / "src/pickguard"

missing = [name for name in ("redis-server", "redis-cli", "openssl") if not shutil.which(name)]
if missing and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI runs what the guide says, and misses {', '.join(missing)}; .ci/run installs it")
needs_programs = pytest.mark.skipif(bool(missing), reason=f"the guide is run with {', '.join(missing)}")

PATIENCE: Final = 30.0

# What is in the guide.


def blocks(heading: str) -> list[str]:
    """Return the fenced blocks under a heading, without their fences."""
    found: dict[str, list[str]] = {}
    under: list[str] = []
    for title, text in re.findall(r"^#+ ([^\n]+)$|^```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        if title:
            found[title] = under = []
        else:
            under.append(text)
    return found[heading]


def block(heading: str, having: str) -> str:
    """Return the one block under a heading that has a text in it."""
    (found,) = (text for text in blocks(heading) if having in text)
    return found


def command_line(unit: str) -> list[str]:
    """Return the words that a unit gives to `pickguard serve`."""
    found = re.search(r"^ExecStart=(.*?[^\\])\n", unit, re.MULTILINE | re.DOTALL)
    assert found is not None
    program, command, *words = shlex.split(found[1].replace("\\\n", " "))
    assert program.endswith("/bin/pickguard")
    assert command == "serve"
    return words


def combined(*parts: str) -> str:
    """Put the lines of configurations together; a user that comes again is in place of the first."""
    lines: dict[str, str] = {}
    for number, line in enumerate("".join(parts).splitlines()):
        words = line.split()
        lines[f"user {words[1]}" if words[:1] == ["user"] else str(number)] = line
    return "".join(f"{line}\n" for line in lines.values())


class Site:
    """The machines of the guide, all of them this one: what stands here for their addresses, passwords and directories."""

    def __init__(self, directory: Path, addresses: Sequence[str] = ()) -> None:
        self.directory = directory
        self.ports = dict(zip(addresses, _reserved(len(addresses)), strict=True))
        self.passwords: dict[str, str] = {}
        self.tls = directory / "tls"
        self.secrets = directory / "secrets"

    async def prepare(self) -> None:
        """Make certificates as the guide does, and the files with passwords."""
        self.tls.mkdir()
        self.secrets.mkdir()
        await shell(self.local(block("One server", "openssl")), self.tls)
        for name in ("cert.pem", "key.pem", "ca.pem"):
            shutil.copy(self.tls / name, self.secrets / name)
        for file, name in (("store", "STORE"), ("admin", "ADMIN"), ("sentinel", "WATCH")):
            (self.secrets / f"{file}-password").write_text(f"{self.password(name)}\n")

    def password(self, name: str) -> str:
        return self.passwords.setdefault(name, secrets.token_hex(16))

    def local(self, text: str, **places: Path | str) -> str:
        """Return a text of the guide with what is true here; `places` are other words to replace, with _ for /."""

        def with_port(match: re.Match[str]) -> str:
            return f"127.0.0.1{match[2]}{self.ports[f'{match[1]}:{match[3]}'].port}"

        text = re.sub(r"(10\.0\.0\.[1-9])(:| | -p )(\d+)", with_port, text)
        text = re.sub(r"10\.0\.0\.\d+", "127.0.0.1", text)
        text = re.sub(r"\b([A-Z]+)-PASSWORD\b", lambda match: self.password(match[1]), text)
        text = text.replace("--port 9443", "--port 0").replace("/etc/redis/tls", str(self.tls))
        text = text.replace("/etc/pickguard", str(self.secrets)).replace("${CREDENTIALS_DIRECTORY}", str(self.secrets))
        for name, place in places.items():
            assert f"/{name.replace('_', '/')}" in text
            text = text.replace(f"/{name.replace('_', '/')}", str(place))
        return text

    def server(self, address: str, *parts: str, mode: Sequence[str] = (), user: str = "admin") -> "AsWritten":
        """Return a server of the guide, which is not started yet."""
        name = address.replace(":", "-")
        text = self.local(combined(*parts))
        text, ports = re.subn(r"^tls-port \d+$", f"tls-port {self.ports[address].port}", text, flags=re.MULTILINE)
        text, directories = re.subn(r"^dir .*$", f"dir {self.directory / name}", text, flags=re.MULTILINE)
        assert (ports, directories) == (1, 1)
        password = self.password("ADMIN" if user == "admin" else user.upper())
        return AsWritten(
            self.directory / name,
            text,
            self.ports[address],
            ca=self.tls / "ca.pem",
            mode=mode,
            username=user,
            password=password,
        )

    @asynccontextmanager
    async def serving(self, unit: str, name: str = "service") -> AsyncGenerator[Serve]:
        """Run the service of a unit."""
        named = set(re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/([\w.-]+)", unit))
        assert named == set(re.findall(r"^LoadCredential=([\w.-]+):/etc/pickguard/\1$", unit, re.MULTILINE))
        data = self.directory / name
        (data / "tls").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.tls / "ca.pem", data / "tls/cert.pem")  # where the tests' client looks for whom to trust
        words = [word.replace("${STATE_DIRECTORY}", str(data)) for word in command_line(self.local(unit))]
        async with serving(data, *words) as service:
            yield service

    async def doctor(self, *words: str) -> dict[str, Any]:
        """Return what the doctor finds, which must be that all is well."""
        status, output, errors = await run_to_end("doctor", "--json", *words, cwd=self.directory)
        assert (status, errors) == (0, ""), output
        document: dict[str, Any] = json.loads(output)
        assert document["verdict"] == "ok", [each for each in document["findings"] if each["verdict"] != "ok"]
        return document


class _Port:
    """A port that is kept free for a server, and the one of its Cluster bus."""

    def __init__(self) -> None:
        while True:
            self.port = free_port()
            self._held = [socket.socket(), socket.socket()]
            try:
                for number, each in enumerate(self._held):
                    each.bind(("127.0.0.1", self.port + 10000 * number))
            except OSError:
                self.release()
            else:
                return

    def release(self) -> None:
        for each in self._held:
            each.close()


def _reserved(count: int) -> list[_Port]:
    return [_Port() for _ in range(count)]


class AsWritten(Server):
    """A server with a file of the guide."""

    def __init__(
        self, directory: Path, text: str, port: _Port, *, ca: Path, mode: Sequence[str], username: str, password: str
    ) -> None:
        program = shutil.which("redis-server")
        assert program is not None
        super().__init__(directory, program=Path(program), mode=mode, username=username, password=password)
        self._reserved = port
        self._ca = ca
        self.port = port.port
        directory.mkdir(exist_ok=True)
        self._configuration.write_text(text)

    def client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(
            host="127.0.0.1",
            port=self.port,
            username=self._username,
            password=self._password,
            ssl=True,
            ssl_ca_certs=str(self._ca),
            protocol=2,
        )

    def _spawn(self) -> None:
        self._reserved.release()
        super()._spawn()


async def shell(script: str, directory: Path, *, status: int = 0) -> str:
    """Run commands of the guide; return what they print."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await ended(process)
    assert process.returncode == status, output.decode()
    return output.decode(errors="replace")


async def lead_a_life(service: Serve) -> None:
    async with service.client() as api:
        assert await api.register() == 201
        assert await api.register() == 409
        token = await api.log_in()
        assert await api.me(token) == 200
        assert (await api.call("DELETE", "/v1/sessions/current", token=token))[0] == 204
        assert await api.me(token) == 401
        assert (await api.call("GET", "/readyz"))[0] == 200


class Load:
    """People who register and log in, one after the other, and what they were told."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._open = False
        self.tokens: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Let them come, and wait for the last of them to be answered."""
        self._open = True
        async with asyncio.TaskGroup() as tasks:
            for number in range(2):
                tasks.create_task(self._come(number))
            try:
                yield
            finally:
                self._open = False

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.tokens) < count:
                await asyncio.sleep(0.01)

    async def _come(self, number: int) -> None:
        while self._open:
            email = f"person{len(self.tokens)}-{number}@example.com"
            assert await self._api.register(email) == 201
            self.tokens[email] = await self._api.log_in(email)


async def assert_there(tokens: Mapping[str, str], service: Serve) -> None:
    async with service.client() as api:
        for email, token in tokens.items():
            assert await api.me(token) == 200
            assert await api.register(email) == 409


@asynccontextmanager
async def direct(data_dir: Path) -> AsyncGenerator[redis.asyncio.Redis]:
    """Return a client of the service's own store."""
    link = Path(os.path.relpath(data_dir / "engine.sock"))  # short enough for the name of a socket
    async with redis.asyncio.Redis(unix_socket_path=str(link)) as client:
        yield client


# Topologies.

SINGLE: Final = block("One server", "# /etc/redis/redis.conf")
UNIT: Final = block("One server", "ExecStart")
DOCTOR: Final = block("One server", "pickguard doctor")
THREE: Final = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def unit_with(heading: str) -> str:
    """Return the unit of a service on another store."""
    options = block(heading, "--store ")
    credentials = "".join(text for text in blocks(heading) if text.startswith("LoadCredential="))
    head, _, rest = UNIT.partition("    --store ")
    _, _, tail = rest.partition("--strict-durability\n")
    return head + options + credentials + tail


def store_options(unit: str) -> list[str]:
    """Return the words of a unit that name the store, for the store's administrator."""
    words = command_line(unit.replace("//pickguard@", "//admin@").replace("/store-password", "/admin-password"))
    return words[words.index("--store") :]


def rules_of_user(name: str, *parts: str) -> list[str]:
    (line,) = (line for line in combined(*parts).splitlines() if line.startswith(f"user {name} "))
    return line.split()[2:]


def test_the_users_in_the_configurations_are_those_that_are_described() -> None:
    service = {rule for rule in described() if rule != "reset" and not rule.startswith(">")}
    strict = {*service, ">STORE-PASSWORD", *described("--strict-durability")}
    assert set(rules_of_user("pickguard", SINGLE)) == strict
    assert set(rules_of_user("pickguard", SINGLE, *blocks("Sentinel")[:1])) == {*strict, *described("--wait-replicas")}
    cluster = {*strict, *described("--wait-replicas"), *described("a Cluster")}
    assert set(rules_of_user("pickguard", SINGLE, *blocks("Cluster")[:1])) == cluster
    watching = {rule for rule in for_sentinels() if rule != "reset" and not rule.startswith(">")}
    assert set(rules_of_user("pickguard", block("Sentinel", "sentinel.conf"))) == {*watching, ">WATCH-PASSWORD"}
    assert len(COMMANDS) > 10


@needs_programs
async def test_the_services_own_store_as_it_is_written(tmp_path: Path) -> None:
    site = Site(tmp_path)
    await site.prepare()
    async with site.serving(block("A store of the service's own", "ExecStart")) as service:
        await lead_a_life(service)
        await site.doctor("--data-dir", str(service.data_dir), "--strict-durability")
        assert await service.stop() == 0


@asynccontextmanager
async def one_server(directory: Path) -> AsyncGenerator[tuple[Site, AsWritten]]:
    site = Site(directory, ["10.0.0.1:6379"])
    await site.prepare()
    async with site.server("10.0.0.1:6379", SINGLE) as server:
        yield site, server


def doctors_words(site: Site) -> list[str]:
    program, command, *words = shlex.split(site.local(DOCTOR).replace("\\\n", " "))
    assert (program, command) == ("pickguard", "doctor")
    return words


@needs_programs
async def test_one_server_as_it_is_written(tmp_path: Path) -> None:
    async with one_server(tmp_path) as (site, _), site.serving(UNIT) as service:
        await lead_a_life(service)
        await site.doctor(*doctors_words(site))
        assert await service.stop() == 0


@needs_programs
async def test_sentinels_as_they_are_written(tmp_path: Path) -> None:
    site = Site(tmp_path, [f"{host}:{port}" for host in THREE for port in (6379, 26379)])
    await site.prepare()
    all_three, of_replicas, of_sentinels, *_ = blocks("Sentinel")
    assert "down-after-milliseconds accounts 5000\n" in of_sentinels
    of_sentinels = of_sentinels.replace("accounts 5000\n", "accounts 1000\n")  # to save time
    unit = unit_with("Sentinel")
    async with AsyncExitStack() as stack:
        servers = []
        for host in THREE:
            more = [all_three] if host == THREE[0] else [all_three, of_replicas]
            server = await stack.enter_async_context(site.server(f"{host}:6379", SINGLE, *more))
            await ask(server, "CONFIG", "SET", "repl-diskless-sync-delay", 0)
            servers.append(server)
        await until_in_sync(servers[0], 2)
        for host in THREE:
            sentinel = site.server(f"{host}:26379", of_sentinels, mode=["--sentinel"], user="sentinel")
            await stack.enter_async_context(sentinel)
            await ask(sentinel, "SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 200, "PING-PERIOD", 200)
            servers.append(sentinel)
        for sentinel in servers[3:]:
            await until(partial(_knows_all, sentinel), f"{sentinel} knows all")
        service = await stack.enter_async_context(site.serving(unit))
        await lead_a_life(service)
        found = await site.doctor(*store_options(site.local(unit)))
        assert {each["id"] for each in found["findings"]} >= {"sentinel", "min-replicas-to-write", "clock"}
        async with service.client() as api:
            token = await api.log_in()
            servers[0].kill()
            await ready_again(api)
            assert await api.me(token) == 200
        assert await service.stop() == 0


async def until_not_ready(api: Api) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await api.call("GET", "/readyz"))[0] == 200:
            await asyncio.sleep(0.02)


async def ready_again(api: Api) -> None:
    """Wait until the service was not ready, and is."""
    await until_not_ready(api)
    await api.until_ready()


async def _knows_all(sentinel: Server) -> bool:
    flat = await ask(sentinel, "SENTINEL", "MASTER", "accounts")
    said: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    return (said[b"num-other-sentinels"], said[b"num-slaves"]) == (b"2", b"2")


@needs_programs
async def test_a_cluster_as_it_is_written(tmp_path: Path) -> None:
    site = Site(tmp_path, [f"{host}:{port}" for port in (6379, 6380, 6381) for host in THREE])
    await site.prepare()
    unit = unit_with("Cluster")
    async with AsyncExitStack() as stack:
        servers = []
        for address in site.ports:
            server = await stack.enter_async_context(site.server(address, SINGLE, blocks("Cluster")[0]))
            # To save time. A replica is not shown to clients before it has heard something of its master.
            await ask(server, "CONFIG", "SET", "repl-diskless-sync-delay", 0, "repl-ping-replica-period", 1)
            servers.append(server)
        await shell(site.local(block("Cluster", "--cluster create")), tmp_path)
        for server in servers:
            await until(partial(_sees_all, server), f"{server} sees all", patience=PATIENCE)
        service = await stack.enter_async_context(site.serving(unit))
        await lead_a_life(service)
        found = await site.doctor(*store_options(site.local(unit)))
        assert sum(each["id"] == "role" for each in found["findings"]) == 9
        assert await service.stop() == 0


async def _sees_all(node: Server) -> bool:
    parts = await ask(node, "CLUSTER", "SLOTS")
    said = await info(node, "replication")
    in_touch = said["min_slaves_good_slaves"] == 2 if said["role"] == "master" else said["master_link_status"] == "up"
    return in_touch and [len(nodes) for _, _, *nodes in parts] == [3] * 3


async def test_a_service_left_with_a_master_without_replicas_is_not_ready_and_still_reads(tmp_path: Path) -> None:
    options = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
    (tmp_path / "servers").mkdir()
    async with (
        Replicated(tmp_path / "servers", options=options) as store,
        serving(tmp_path / "service", "--no-tls", "--store", store.url) as service,
        service.client() as api,
    ):
        assert await api.register() == 201
        token = await api.log_in()
        store.replicas[0].freeze()
        await until_not_ready(api)
        assert await api.me(token) == 200
        assert await api.register("new@example.com") == 503


# Mail.


async def test_mail_as_it_is_written(tmp_path: Path) -> None:
    given, credential = blocks("Mail")
    assert set(re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/([\w.-]+)", given)) == set(re.findall(r"=([\w.-]+):", credential))
    (tmp_path / "mail-password").write_text(f"{PASSWORD}\n")
    certificate, key = development_certificate(tmp_path / "tls", "127.0.0.1")
    mailbox = Mailbox()
    async with mail_server(mailbox, tls_context=server_context(certificate, key)) as port:
        text = given.replace("mail.example.com", f"127.0.0.1:{port}").replace("${CREDENTIALS_DIRECTORY}", str(tmp_path))
        words = [*shlex.split(text.replace("\\\n", " ")), "--mail-ca", str(certificate)]
        async with serving(tmp_path / "data", "--store", "memory:", *words) as service, service.client() as api:
            assert await api.register() == 201
            (delivery,) = await mailbox.until(1)
    assert (delivery.by_tls, delivery.user, delivery.sender) == (True, "accounts", "accounts@example.com")
    assert delivery.message["From"] == "Example Accounts <accounts@example.com>"
    assert "https://accounts.example.com/account/verify#token=pgm_" in delivery.text
    assert "Example sent this mail by itself" in delivery.text


def test_what_is_mailed_and_the_variables_of_templates_are_told() -> None:
    section = GUIDE.partition("### What is mailed, and when")[2].partition("### How mail is sent")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(STEMS.values())
    wording = GUIDE.partition("### Wording")[2].partition("## Upgrade")[0]
    told = {name for row in re.findall(r"^\| (`[^|]+) \|", wording, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    renderer = Renderer(service_name="A", public_url="https://a.example", sender=Address("A", "a", "a.example"))
    known = {name for sample in samples() for name in renderer._values(sample)}
    assert told == known | {"service", "public_url"}


# Backup, restore, move.


@needs_programs
async def test_the_files_of_a_store_in_use_are_a_backup(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    async with serving(tmp_path / "data", "--no-tls") as service, service.client() as api:
        load = Load(api)
        async with load.running():
            await load.until(5)
            there = dict(load.tokens)
            script = block("Backup", "cp -al").replace("/var/lib/pickguard", str(service.data_dir))
            await shell(script.replace("/backup", str(tmp_path / "backup")), tmp_path)
            await load.until(len(load.tokens) + 2)  # work went on
        assert sorted(path.name for path in service.data_dir.iterdir()) == [
            *("appendonlydir", "engine.log", "engine.sock", "pickguard.lock")
        ]
        async with direct(service.data_dir) as store:
            assert (await store.config_get("auto-aof-rewrite-percentage")).popitem()[1] == "100"
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copytree(tmp_path / "backup/appendonlydir", restored / "appendonlydir")
    async with serving(restored, "--no-tls") as service:
        await assert_there(there, service)
        await assert_whole(service)
        # What had been ended since would be open again, so all of it is ended.
        await shell(block("Restore", "SCRIPT LOAD"), restored)
        async with service.client() as api:
            assert {await api.me(token) for token in there.values()} == {401}
            for email in there:
                assert await api.me(await api.log_in(email)) == 200
        await assert_whole(service)


async def assert_whole(service: Serve) -> None:
    async with direct(service.data_dir) as store:
        assert await broken_invariants(store) == []
    status, output, _ = await run_to_end("doctor", "--json", "--data-dir", str(service.data_dir), cwd=service.data_dir)
    found = json.loads(output)
    # A registration that was under way leaves a claim, which does no harm.
    assert (status, set(found["inspection"]["found"]) - {"orphan-claim", "pending-claim"}) == (0, set())


@needs_programs
async def test_a_snapshot_of_a_server_in_use_is_a_backup(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    async with one_server(tmp_path) as (site, server):
        async with site.serving(UNIT) as service:
            async with service.client() as api:
                load = Load(api)
                async with load.running():
                    await load.until(5)
                    there = dict(load.tokens)
                    script = site.local(block("Backup", "--rdb"), backup=tmp_path / "backup")
                    await ask(server, "CONFIG", "SET", "repl-diskless-sync-delay", 0)  # what it waits for others, to save time
                    await shell(script, tmp_path)
                    await load.until(len(load.tokens) + 2)
            assert await service.stop() == 0
        await server.stop()
        (server.directory / "appendonlydir").rename(tmp_path / "aside")
        # A snapshot that just lies there is not looked at.
        shutil.copy(tmp_path / "backup/accounts.rdb", server.directory / "dump.rdb")
        await server.start()
        assert await ask(server, "DBSIZE") == 0
        await server.stop()
        shutil.rmtree(server.directory / "appendonlydir")
        restore = block("Restore", "mkdir").replace("/backup", str(tmp_path / "backup"))
        await shell(restore, server.directory)
        await server.start()
        async with site.serving(UNIT) as service:
            await assert_there(there, service)
        async with server.client() as store:
            assert await broken_invariants(store) == []
        await site.doctor(*doctors_words(site), "--no-scan")


@needs_programs
async def test_the_services_own_store_moves_to_a_server(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", "--no-tls") as service, service.client() as api:
        load = Load(api)
        async with load.running():
            await load.until(3)
            first, second, *_ = (text.replace("/var/lib/pickguard", str(service.data_dir)) for text in blocks(MOVING))
            await shell(first, tmp_path)
            await load.until(6)
        there = dict(load.tokens)
        assert await service.stop() == 0
    async with one_server(tmp_path) as (site, server):
        assert "errors: 0" in await shell(site.local(second), tmp_path)
        async with site.serving(UNIT) as service:
            await assert_there(there, service)
        async with server.client() as store:
            assert await broken_invariants(store) == []


MOVING: Final = "Moving to a server of your own"


# Upgrade.


class Proxied(Api):
    """The API of several services: a connection that is refused by one is tried at the next, as a proxy does it."""

    def __init__(self, session: aiohttp.ClientSession, services: Sequence[Serve]) -> None:
        super().__init__(session)
        self._services = services

    async def call(self, method: str, path: str, body: object = None, *, token: str | None = None) -> tuple[int, Any]:
        for each in self._services:
            try:
                return await super().call(method, f"{each.base}{path}", body, token=token)
            except aiohttp.ClientConnectorError:
                continue
        raise AssertionError("no service takes a connection")


async def test_accounts_of_another_system_are_imported_as_it_is_written(tmp_path: Path, valkey: Engine) -> None:
    program = block("Hashes of other systems", "services.imports.add").replace("redis://10.0.0.1:6379/0", valkey.url)
    async with redis.asyncio.Redis(unix_socket_path=str(valkey.socket_path)) as client:
        await client.flushall()
    for printed in ("", "ada@example.com AddressTaken \n"):
        assert await asyncio.to_thread(run, [sys.executable, "-W", "error", "-c", program], directory=tmp_path) == printed
    async with open_services(Settings(store=valkey.url)) as services:
        logged_in = await services.authentication.log_in(email="ada@example.com", password="correct horse battery staple")
        assert logged_in.user.email_verified
        snapshot = await services.accounts.get(logged_in.user.id)
        assert snapshot is not None
        assert snapshot.account.credential.password_hash.startswith("$argon2id$")


async def test_two_services_are_replaced_one_after_the_other_and_no_request_fails(tmp_path: Path) -> None:
    async with Server(tmp_path / "store") as store, AsyncExitStack() as stack:

        async def start(name: str) -> Serve:
            service = await Serve.start(tmp_path / name, "--no-tls", "--store", store.url)
            stack.push_async_callback(service.end)
            return service

        services = list(await asyncio.gather(start("one"), start("two")))
        connector = aiohttp.TCPConnector(force_close=True)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)))
        load = Load(Proxied(session, services))
        async with load.running():
            for number in range(2):
                await load.until(len(load.tokens) + 2)
                assert await services[number].stop() == 0
                services[number] = await start(f"new-{number}")
        async with store.client() as client:
            assert await broken_invariants(client) == []
        assert len(load.tokens) > 4


@needs_programs
async def test_a_file_of_valkey_9_is_not_read_by_redis(tmp_path: Path) -> None:
    async with Server(tmp_path / "server") as server:
        await ask(server, "SET", "a", "b")
        await ask(server, "BGREWRITEAOF")
        await until(partial(_is_rewritten, server), "the file is rewritten")
        await server.stop()
    with pytest.raises(ServerError, match=r"Can't handle RDB format version|Bad file format"):
        async with Server(tmp_path / "server", program=Path(str(shutil.which("redis-server")))):
            pass


async def _is_rewritten(server: Server) -> bool:
    said = await info(server, "persistence")
    return not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"]


# Damaged files.


DAMAGED: Final = "A damaged append-only file"


async def with_people(directory: Path, *emails: str) -> Path:
    """Return the file of the service's own store, which was stopped after some people registered, in this order."""
    async with serving(directory, "--no-tls") as service, service.client() as api:
        for email in emails:
            assert await api.register(email) == 201
        assert await service.stop() == 0
    (file,) = directory.glob("appendonlydir/*.incr.aof")
    return file


async def test_a_file_with_a_flipped_byte_is_refused_in_one_line_and_can_be_cut_off(tmp_path: Path) -> None:
    data = tmp_path / "data"
    people = [f"person{number}@example.com" for number in range(4)]
    file = await with_people(data, *people)
    content = bytearray(file.read_bytes())
    # The length of a word of the claim that the third of them made.
    place = content.rindex(b"*", 0, content.index(b"pg:email:", _claim_of(content, 3) - 1))
    content[content.index(b"$", place)] ^= 1
    file.write_bytes(content)
    status, output, errors = await run_to_end("serve", "--no-tls", "--port", "0", "--data-dir", "data", cwd=tmp_path)
    assert (status, output) == (1, "")
    assert errors == block(DAMAGED, "Bad file format")
    script = block(DAMAGED, "ln -s").replace("/var/lib/pickguard", str(data))
    python = Path(sys.executable)
    script = script.replace("/opt/pickguard/bin/python", str(python))
    with_status = script.replace("./valkey-check-aof appendonlydir", "! ./valkey-check-aof appendonlydir", 1)
    told = await shell(with_status, tmp_path)
    assert re.search(r"size=\d+, ok_up_to=\d+", told)
    assert "Successfully truncated" in told
    async with serving(data, "--no-tls") as service, service.client() as api:
        status, output, _ = await run_to_end("doctor", "--repair", "--data-dir", str(data), cwd=tmp_path)
        assert status == 0, output
        assert [await api.register(email) for email in people] == [409, 409, 201, 201]
        await assert_whole(service)
    assert (data / "damaged" / file.name).read_bytes() == content


def _claim_of(content: bytearray, number: int) -> int:
    """Return where the n-th claim is first named."""
    names = list(dict.fromkeys(re.findall(rb"pg:email:[\w-]+", content)))
    return content.index(names[number - 1])


async def test_a_file_that_ends_in_half_a_command_is_read_up_to_there(tmp_path: Path) -> None:
    people = ["ada@example.com", "late@example.com"]
    file = await with_people(tmp_path / "data", *people)
    with file.open("ab") as end:
        end.write(b"*3\r\n$3\r\nSET\r\n$37\r\npg:email:")
    async with serving(tmp_path / "data", "--no-tls") as service, service.client() as api:
        assert [await api.register(email) for email in people] == [409, 409]
        await assert_whole(service)
    (said,) = re.findall(r"`(loaded anyway [^`]+)`", GUIDE)
    assert said in (tmp_path / "data/engine.log").read_text()


@needs_programs
async def test_a_server_with_half_a_transaction_does_not_start_and_can_be_helped(tmp_path: Path) -> None:
    people = ["ada@example.com", "late@example.com"]
    async with one_server(tmp_path) as (site, server):
        async with site.serving(UNIT) as service, service.client() as api:
            assert await api.register(people[0]) == 201
        await server.stop()
        whole = server.append_only_file.read_bytes()
        with server.append_only_file.open("ab") as end:
            end.write(b"*1\r\n$5\r\nMULTI\r\n*3\r\n$4\r\nHDEL\r\n$3\r\npg:")
        with pytest.raises(ServerError, match="Unexpected end of file reading the append only file") as refused:
            await server.start()
        assert "aof-load-truncated" in str(refused.value)
        script = block(DAMAGED, "torn").replace("/var/lib/redis", str(server.directory))
        told = await shell(script.replace("redis-check-aof append", "! redis-check-aof append", 1), tmp_path)
        assert f"ok_up_to={len(whole)}," in told
        assert "Successfully truncated" in told
        assert server.append_only_file.read_bytes() == whole
        await server.start()
        async with site.serving(UNIT, "again") as service, service.client() as api:
            assert [await api.register(email) for email in people] == [409, 201]
        await server.restart()
        async with site.serving(UNIT, "last") as service, service.client() as api:
            assert [await api.register(email) for email in people] == [409, 409]
        async with server.client() as store:
            assert await broken_invariants(store) == []


# Two accounts with one address.


@needs_programs
async def test_of_two_accounts_with_one_address_the_one_that_is_left_gets_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data, "--no-tls") as service, service.client() as api, direct(data) as store:
        assert await api.register() == 201
        token = await api.log_in()
        await store.delete(*await store.keys("pg:email:*"))  # as a fail-over may do it
        assert await api.register() == 201
        other = await api.log_in()
        assert [await api.me(each) for each in (token, other)] == [200, 200]
        status, output, _ = await run_to_end("doctor", "--repair", "--json", "--data-dir", str(data), cwd=tmp_path)
        found = json.loads(output)["inspection"]
        assert (status, set(found["found"]), found["repaired"]) == (3, {"shared-address"}, {})
        _, user = await api.call("GET", "/v1/users/me", token=other)
        told = await shell(block("In the doctor's report", "HGET").replace("ID", user["id"]), data)
        assert "Ada" in told
        assert len(re.findall(r"^20\d\d-\d\d-\d\dT", told, re.MULTILINE)) == 2
        assert await store.delete(f"pg:{{{user['id']}}}") == 1
        await age_claims(store)
        status, output, _ = await run_to_end("doctor", "--repair", "--json", "--data-dir", str(data), cwd=tmp_path)
        assert (status, json.loads(output)["inspection"]["repaired"]) == (0, {"foreign-claim": 1})
        assert await api.me(await api.log_in()) == 200
        assert [await api.me(each) for each in (token, other)] == [200, 401]
        await assert_whole(service)


# What it says.


class Module:
    """The source of a module, and the texts in it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(SOURCE))
        self.tree = ast.parse(path.read_text())

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Return the calls of something by one of these names, or of something in it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                called = {ast.unparse(node.func), ast.unparse(getattr(node.func, "value", node.func))}
                if called & set(names):
                    yield node

    def texts(self, node: ast.AST | None) -> Iterator[str]:
        """Return the texts that an expression may be, with … for what varies; of a name, what is assigned to it anywhere."""
        match node:
            case ast.Constant(value=str(text)):
                yield re.sub(r"%[sdr]", "…", text)
            case ast.JoinedStr(values=parts):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
            case ast.IfExp(body=one, orelse=other):
                yield from (*self.texts(one), *self.texts(other))
            case ast.BinOp(left=beginning, op=ast.Add()):
                yield from (f"{text}…" for text in self.texts(beginning))
            case ast.BoolOp(values=values) | ast.Subscript(value=ast.Dict(values=values)):
                yield from (text for value in values for text in self.texts(value))
            case ast.Name(id=name) if name in CONSTANTS:
                yield CONSTANTS[name]
            case ast.Name(id=name):
                yield from self.assigned(name)

    def assigned(self, name: str) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and name in ast.unparse(node.targets[0]).strip("()").split(", "):
                value = node.value
                if isinstance(node.targets[0], ast.Tuple) and isinstance(value, ast.Tuple):
                    value = value.elts[[ast.unparse(each) for each in node.targets[0].elts].index(name)]
                yield from self.texts(value)

    def returned(self, function: str) -> Iterator[str]:
        """Return the texts that a function or method returns, if there is one by this name."""
        for body in ast.walk(self.tree):
            if isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef) and body.name == function:
                yield from (text for node in ast.walk(body) if isinstance(node, ast.Return) for text in self.texts(node.value))


CONSTANTS: Final = {"UNKNOWN_OUTCOME": UNKNOWN_OUTCOME, "NOT_REPLICATED": NOT_REPLICATED}
MODULES: Final = {module.name: module for module in map(Module, sorted(SOURCE.rglob("*.py")))}


def rows(heading: str) -> list[tuple[str, list[str]]]:
    """Return the rows of the tables under a heading, without their heads, each with the code in it."""
    (section,) = re.findall(rf"^### {heading}\n(.*?)(?=^##)", GUIDE, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\|[- |]+\|\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [(line, re.findall(r"`([^`]+)`", line)) for table in tables for line in table.splitlines()]


def explained(heading: str, message: str) -> list[str]:
    """Return the rows that explain a message, or several that are alike but for what varies."""
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))))
    found = [line for line, codes in rows(heading) if any(pattern.fullmatch(code) for code in codes)]
    assert found, f"docs/operations.md, {heading!r}, does not explain: {message}"
    return found


def assert_explained(heading: str, messages: set[str], *, but: str = "[^\\s\\S]") -> None:
    """Assert that every message has a row, and every row, but some, a message."""
    seen = {line for message in messages for line in explained(heading, message)}
    left = [line for line, _ in rows(heading) if line not in seen and not re.match(but, line)]
    assert left == [], f"docs/operations.md, {heading!r}, explains what is never said"


ERRORS: Final = (
    "ServingError",
    "AdminListeningError",
    "TokensError",
    "EngineError",
    "StoreUnavailable",
    "NotSentError",
    "CertificateError",
    "DoctorError",
)
ANSWERS_ONLY: Final = {
    "no node of the cluster has this key's slot",
    "the client was closed",
    "by the store's clock the time to restore the account would be over already",
    "the claim on the address had grown too old when the account was saved",
    "too few replicas have confirmed the claim on an address",
    "too few replicas have confirmed that a request was seen",
    "too few replicas have confirmed an answer",
    "no connection to this node was free in time",
    "the nodes of the cluster send a command from one to the other",
    "too much is being counted in memory; a store in Redis has room for more",
}
"""A client gets the 503 that stands for these, and the log has them."""
OF_THE_LIBRARY: Final = {
    "the embedded store belongs to `pickguard serve`; a program that uses the library names a store: memory: or redis://…",
    "this store does not list its accounts; pass a directory to build_services",
}


def test_every_message_of_a_service_that_does_not_start_is_explained() -> None:
    messages: set[str] = set()
    for module in MODULES.values():
        messages |= {text for call in module.calls(*ERRORS) for argument in call.args for text in module.texts(argument)}
    bootstrap = MODULES["entrypoints/bootstrap.py"]  # what is wrong with a setting is found when it is put to use
    messages |= {text for call in bootstrap.calls("SettingsError") for text in bootstrap.texts(call.args[0])}
    assert messages >= ANSWERS_ONLY
    messages -= {*ANSWERS_ONLY, *OF_THE_LIBRARY, "--store memory: belongs to one process, and nobody else can look at it"}
    for function in ("_bind_failure", "_why_no_master"):
        said = {text for module in MODULES.values() for text in module.returned(function)}
        assert said
        messages |= said
    for name in ("common", "serve"):
        command = MODULES[f"entrypoints/commands/{name}.py"]
        messages |= {text for call in command.calls("fail") for text in command.texts(call.args[0])}
    assert len(messages) > 25
    assert_explained("When it does not start", messages - {"……"})  # the doctor's, of which both parts vary
    (row,) = explained("When it does not start", "no master was found; …")
    answers = [text for module in MODULES.values() for text in module.returned("_said_by")]
    assert [text for text in answers if f"`{text}`" not in row] == []
    assert answers


def test_every_line_of_the_log_is_explained() -> None:
    messages: set[str] = set()
    for module in MODULES.values():
        loggers = [text for call in module.calls("logging.getLogger") for text in module.texts(next(iter(call.args), None))]
        for call in module.calls("logger"):
            level = ast.unparse(call.func).partition(".")[2].replace("exception", "error")
            for message in module.texts(call.args[0]):
                said = '{"…' if message == "…" else message  # a line of JSON
                assert any(f"| `{loggers[0]}` | {level} |" in row for row in explained("In its log", said))
                messages.add(said)
    assert_explained("In its log", messages, but=r"\| `pickguard.store` \| warning \| \[a finding\]")
    kinds = {name for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, events.Event)}
    for name in kinds - {"Event"}:
        assert f"`{name}`" in GUIDE


def test_every_503_is_explained() -> None:
    later = {slug for slug, kind in TYPES.items() if kind.status == 503}
    details: set[str] = set()
    for module in MODULES.values():
        for call in module.calls("problem", "_later", "_plain"):
            kind = next(iter(call.args), None)
            if isinstance(kind, ast.Constant) and kind.value in later:
                for detail in module.texts(call.args[1]):
                    assert all(f"| `{kind.value!s}` |" in row for row in explained("In a 503", detail))
                    details.add(detail)
    assert len(details) > len(later)
    assert_explained("In a 503", details)


def test_every_finding_of_the_doctor_is_explained() -> None:
    module = MODULES["adapters/redis/durability.py"]
    said: set[str] = set(module.assigned("found"))
    durable: dict[str, set[str]] = {}
    for call in module.calls("_found", "Finding"):
        named = {each.arg: each.value for each in call.keywords}
        id_, verdict, found = (named.get(name) or call.args[at] for at, name in ((1, "id"), (2, "verdict"), (3, "found")))
        if ast.unparse(verdict) != "Verdict.OK":
            said |= set(module.texts(found))
            for name in module.texts(id_):
                durable.setdefault(name, set()).add(ast.unparse(named["durability"]) if "durability" in named else "True")
    said |= set(MODULES["adapters/argon2/bindings.py"].returned("_built"))
    assert_explained("In the doctor's report", said - GOOD_NEWS, but=rf"\| `({'|'.join(Kind)})` ")
    ids = {name for names in TOPICS.values() for name in names}
    assert {codes[0] for _, codes in rows("In the doctor's report")} == ids | set(Kind)
    for line, (name, *_) in rows("In the doctor's report"):
        if durable.get(name) in ({"True"}, {"False"}):
            assert line.startswith(f"| `{name}` * |") == (durable[name] == {"True"}), line


GOOD_NEWS: Final = {
    "The clocks of … servers agree to … ms.",
    "It finds enough sentinels for a fail-over.",
    "… … it.",
}
"""What is well is said as well, and needs no explanation."""
