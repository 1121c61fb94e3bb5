"""Several servers at once, on loopback: a master with replicas, with Sentinels above it, and a Cluster.

Each starts all that it consists of and kills it in the end, whatever has become of it. `program`, `options` and `password` are
those of every server; what is written in `options` replaces what stands here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from tests.support.redis_servers import Server

PATIENCE: Final = 20.0
"""Seconds until a test gives up on servers that do not come to agree. Nothing waits this long unless it fails."""
SERVICE: Final = "accounts"
"""By which name Sentinels know the master."""
SLOTS: Final = 16384

# In milliseconds, what a Sentinel otherwise does every ten seconds, two seconds and second. Here a second without an answer is
# enough for a server to be down; with one ping in it, a single late answer would be a fail-over.
_SENTINEL_PERIODS = {"INFO-PERIOD": 500, "PUBLISH-PERIOD": 200, "PING-PERIOD": 200, "ASK-PERIOD": 200}

_QUICK = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}

Options = Mapping[str, str | Sequence[str]]


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, patience: float = PATIENCE) -> None:
    """Ask again and again until a condition holds. A server that does not answer is one for which it does not hold."""
    give_up_at = time.monotonic() + patience
    while True:
        try:
            if await condition():
                return
            reason = "no"
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
        assert time.monotonic() < give_up_at, f"{what}: {reason} for {patience} seconds"
        await asyncio.sleep(0.02)


async def ask(server: Server, *command: str | int) -> Any:
    """Send one command to one server, over a connection of its own."""
    async with server.client() as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def _text(server: Server, *command: str) -> str:
    answer: bytes = await ask(server, *command)
    return answer.decode()


async def info(server: Server, section: str) -> dict[str, Any]:
    """Return what a server says of itself."""
    async with server.client() as client:
        return await client.info(section)


class _Topology:
    """What they have in common: servers that start together and are killed together."""

    def __init__(self, directory: Path, *, program: Path | None, password: str | None) -> None:
        self.servers: list[Server] = []
        self._directory = directory
        self._program = program
        self._password = password
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        raise NotImplementedError

    async def _add(self, name: str, options: Options) -> Server:
        with_password: Options = {"requirepass": self._password, "masterauth": self._password} if self._password else {}
        server = Server(
            self._directory / name, {**_QUICK, **with_password, **options}, program=self._program, password=self._password
        )
        self.servers.append(await self._stack.enter_async_context(server))
        return server

    @property
    def _credentials(self) -> str:
        return f":{quote(self._password, safe='')}@" if self._password else ""


class Replicated(_Topology):
    """One master and its replicas, and nobody to replace it."""

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 1,
        options: Options | None = None,
        program: Path | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(directory, program=program, password=password)
        self._count = replicas
        self._options = options or {}

    @property
    def master(self) -> Server:
        """The one that was started as the master."""
        return self.servers[0]

    @property
    def replicas(self) -> list[Server]:
        """Those that were started as replicas."""
        return self.servers[1:]

    @property
    def url(self) -> str:
        """The store's URL: the master's."""
        return self.master.url

    async def _start(self) -> None:
        await self._add("server-1", self._options)
        of_master = {"replicaof": f"127.0.0.1 {self.master.port}"}
        await asyncio.gather(
            *(self._add(f"server-{number}", {**self._options, **of_master}) for number in range(2, self._count + 2))
        )
        await until_in_sync(self.master, self._count)


async def until_in_sync(master: Server, replicas: int) -> None:
    """Wait until as many replicas have confirmed all that a master has by now, and it knows that it has them."""
    async with master.client() as client:
        # Outside of a Cluster this is replicated as writes are, and leaves no key. WAIT asks for what replicas say each second.
        await client.publish("tests", "")
        await client.wait(replicas, 200)
    # A replica that is still loading has confirmed 0.
    wanted = max(1, int((await info(master, "replication"))["master_repl_offset"]))

    async def in_sync() -> bool:
        said = await info(master, "replication")
        there = [said[f"slave{number}"] for number in range(said["connected_slaves"])]
        confirmed = sum(each["state"] == "online" and each["offset"] >= wanted for each in there)
        return confirmed >= replicas and int(said.get("min_slaves_good_slaves", replicas)) >= replicas

    await until(in_sync, f"{replicas} replicas in sync with {master}")


class Sentinels(_Topology):
    """Three Sentinels that watch one master with two replicas.

    A master that is silent for `down_after_ms` is replaced, by a replica, if two of the Sentinels think so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 2,
        down_after_ms: int = 1000,
        options: Options | None = None,
        program: Path | None = None,
        password: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        super().__init__(directory, program=program, password=password)
        self.sentinels: list[Server] = []
        self._replicas = replicas
        self._down_after_ms = down_after_ms
        self._options = options or {}
        self._sentinel_password = sentinel_password

    @property
    def url(self) -> str:
        """The store's URL."""
        own = f"?sentinel_password={quote(self._sentinel_password, safe='')}" if self._sentinel_password else ""
        return f"redis+sentinel://{self._credentials}{','.join(each.address for each in self.sentinels)}/{SERVICE}{own}"

    async def master(self) -> Server:
        """Return the server that all Sentinels that are awake take for the master, once they agree."""
        found: set[int] = set()

        async def agree() -> bool:
            nonlocal found
            found = {await self._port_according_to(each) for each in self.sentinels if each.awake}
            return len(found) == 1

        await until(agree, "the Sentinels agree on a master")
        return next(each for each in self.servers if each.port in found)

    async def failover_done(self, old: Server, *, patience: float = PATIENCE) -> Server:
        """Wait until all Sentinels know another master than the old one, and it takes itself for one; return it."""

        async def done() -> bool:
            master = await self.master()
            return master is not old and (await info(master, "replication"))["role"] == "master"

        await until(done, f"a fail-over from {old}", patience=patience)
        return await self.master()

    async def _port_according_to(self, sentinel: Server) -> int:
        # GET-MASTER-ADDR-BY-NAME names the new one earlier, when clients that ask as redis-py does are told of the old one.
        return int((await self._about_master(sentinel))[b"port"])

    async def _about_master(self, sentinel: Server) -> dict[bytes, bytes]:
        flat = await ask(sentinel, "SENTINEL", "MASTER", SERVICE)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def _start(self) -> None:
        below = Replicated(
            self._directory, replicas=self._replicas, options=self._options, program=self._program, password=self._password
        )
        await self._stack.enter_async_context(below)
        self.servers = below.servers
        await asyncio.gather(*(self._add_sentinel(number, below.master) for number in (1, 2, 3)))
        await asyncio.gather(*(until(partial(self._knows_all, each), f"{each} knows all") for each in self.sentinels))

    async def _add_sentinel(self, number: int, master: Server) -> None:
        lines = [
            f"monitor {SERVICE} 127.0.0.1 {master.port} 2",
            f"down-after-milliseconds {SERVICE} {self._down_after_ms}",
            f"failover-timeout {SERVICE} 1500",
            f"parallel-syncs {SERVICE} {self._replicas}",
        ]
        options: dict[str, str | Sequence[str]] = {"sentinel": lines}
        if self._password:
            lines.append(f"auth-pass {SERVICE} {self._password}")
        if self._sentinel_password:
            options["requirepass"] = self._sentinel_password
            lines.append(f"sentinel-pass {self._sentinel_password}")
        sentinel = Server(
            self._directory / f"sentinel-{number}",
            options,
            program=self._program,
            mode=["--sentinel"],
            password=self._sentinel_password,
        )
        self.sentinels.append(await self._stack.enter_async_context(sentinel))
        with suppress(ResponseError):  # Redis 6.2 has no such command, and takes its time
            await ask(sentinel, "SENTINEL", "DEBUG", *(part for pair in _SENTINEL_PERIODS.items() for part in pair))

    async def _knows_all(self, sentinel: Server) -> bool:
        said = await self._about_master(sentinel)
        return int(said[b"num-other-sentinels"]) == 2 and int(said[b"num-slaves"]) == self._replicas


class Cluster(_Topology):
    """Masters that share the slots evenly, each with a replica that takes over when it is silent for `node_timeout_ms`.

    As it should be set for accounts, the slots of the other masters are served while one has no master.
    """

    def __init__(
        self,
        directory: Path,
        *,
        masters: int = 3,
        node_timeout_ms: int = 1000,
        options: Options | None = None,
        program: Path | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(directory, program=program, password=password)
        self._masters = masters
        self._options = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(node_timeout_ms),
            "cluster-require-full-coverage": "no",
            **(options or {}),
        }

    @property
    def url(self) -> str:
        """The store's URL, with two of the nodes in it."""
        return f"redis+cluster://{self._credentials}{','.join(each.address for each in self.servers[:2])}"

    async def owner(self, key: str | bytes) -> Server:
        """Return the master that serves a key, as all nodes that are awake say."""
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        ports: set[int] = set()

        async def agree() -> bool:
            nonlocal ports
            ports = {await self._owner_according_to(each, slot) for each in self.servers if each.awake}
            return len(ports) == 1

        await until(agree, f"the nodes agree on the owner of slot {slot}")
        return self._at(ports.pop())

    async def masters(self) -> list[Server]:
        """Return the masters that are awake, as the nodes themselves say."""
        return [each for each in self.servers if each.awake and (await info(each, "replication"))["role"] == "master"]

    async def replica_of(self, master: Server) -> Server:
        """Return a replica that is awake."""
        for each in self.servers:
            if each.awake and each is not master:
                said = await info(each, "replication")
                if said["role"] == "slave" and said["master_port"] == master.port:
                    return each
        raise AssertionError(f"{master} has no replica")

    async def until_ok(self, *, patience: float = PATIENCE) -> None:
        """Wait until every node that is awake finds all slots served, by masters that are awake."""
        awake = [each for each in self.servers if each.awake]
        await asyncio.gather(
            *(until(partial(self._is_ok, each), f"{each} finds all well", patience=patience) for each in awake)
        )

    async def migrating(self, slot: int, source: Server, target: Server) -> None:
        """Begin to move a slot: what is not there any more is asked for at the target (ASK)."""
        await ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", await self._id(source))
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", await self._id(target))

    async def move_keys(self, slot: int, source: Server, target: Server, *, most: int = 100) -> int:
        """Move some keys of a slot that is migrating; return how many."""
        keys = await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, most)
        auth = ("AUTH", self._password) if self._password else ()
        if keys:
            await ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, *auth, "KEYS", *keys)
        return len(keys)

    async def migrated(self, slot: int, target: Server) -> None:
        """End the move of a slot: it is the target's from now on (MOVED)."""
        node = await self._id(target)
        for each in [target, *(each for each in await self.masters() if each is not target)]:
            await ask(each, "CLUSTER", "SETSLOT", slot, "NODE", node)

    async def _start(self) -> None:
        await asyncio.gather(*(self._add(f"node-{number}", self._options) for number in range(1, 2 * self._masters + 1)))
        masters, replicas = self.servers[: self._masters], self.servers[self._masters :]
        for number, each in enumerate(self.servers):
            # Epochs of their own, or the nodes would first have to resolve that all have the same.
            await ask(each, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, each in enumerate(masters):
            slots = range(SLOTS * number // self._masters, SLOTS * (number + 1) // self._masters)
            await ask(each, "CLUSTER", "ADDSLOTS", *slots)
        for each in self.servers[1:]:
            await ask(masters[0], "CLUSTER", "MEET", "127.0.0.1", each.port)
        await asyncio.gather(*(until(partial(self._knows_all, each), f"{each} knows all") for each in self.servers))
        for master, replica in zip(masters, replicas, strict=True):
            await ask(replica, "CLUSTER", "REPLICATE", await self._id(master))
        await self.until_ok()
        await asyncio.gather(*(until_in_sync(each, 1) for each in masters))

    def _at(self, port: int) -> Server:
        return next(each for each in self.servers if each.port == port)

    async def _id(self, server: Server) -> str:
        return await _text(server, "CLUSTER", "MYID")

    async def _knows_all(self, server: Server) -> bool:
        lines = (await _text(server, "CLUSTER", "NODES")).splitlines()
        return len(lines) == len(self.servers) and "handshake" not in "".join(lines)

    async def _is_ok(self, server: Server) -> bool:
        served = 0
        for first, last, (_, port, *_), *_ in await ask(server, "CLUSTER", "SLOTS"):
            if not self._at(port).awake:
                return False
            served += last - first + 1
        return served == SLOTS and "cluster_state:ok" in await _text(server, "CLUSTER", "INFO")

    async def _owner_according_to(self, server: Server, slot: int) -> int:
        for first, last, (_, port, *_), *_ in await ask(server, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return int(port)
        return 0
