"""Connections to a store of any topology, all of one kind: every command is sent once, and every failure says what it means."""

import asyncio
import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ClassVar, Final, Self, cast

import attrs
import redis.asyncio as redis
from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.commands import (
    FAILURES,
    Client,
    NotSentError,
    StaleMasterError,
    UnderReplicatedError,
)
from pickguard.adapters.redis.location import Location, Topology
from pickguard.domain.model.errors import StoreUnavailable

WAIT_TIMEOUT: Final = timedelta(milliseconds=500)
"""How long a write waits for its replicas, unless told otherwise."""

LOOK_AGAIN: Final = timedelta(seconds=1)
"""How old the sentinels' word on who is the master may be."""

_BUSY_PAUSE = 0.002
_ASKING: ContextVar[bool] = ContextVar("_ASKING", default=False)


@attrs.frozen(kw_only=True)
class Node:
    """One server of a store."""

    name: str
    client: Client


class StoreClient(ABC):
    """A client of a store: `Commands` of any key go to the server that has it. To be used as a context manager."""

    location: Location
    wait_replicas: int
    """How many replicas confirm what a script wrote before its answer is returned."""
    has_several_masters: ClassVar[bool] = False

    @abstractmethod
    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command, once, and return its answer. Raises one of `FAILURES`."""

    async def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send many commands that may as well run twice, at once; return the answer to each, or the error."""
        return await asyncio.gather(*(self.execute_command(*each) for each in commands), return_exceptions=True)

    @abstractmethod
    async def reach(self) -> None:
        """Return if a server answers and lets us in. Raises one of `FAILURES`."""

    @abstractmethod
    async def masters(self) -> Sequence[Node]:
        """Return the servers that take writes: one, or those of a cluster. Raises one of `FAILURES`."""

    @abstractmethod
    async def replicas(self) -> Sequence[Node]:
        """Return the servers that copy them, as far as their masters or sentinels know. Raises one of `FAILURES`."""

    async def sentinels(self) -> Sequence[Node]:
        """Return the sentinels that were named."""
        return ()

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def open_client(
    store: Location | str,
    *,
    connections: int,
    connect_timeout: timedelta,
    command_timeout: timedelta,
    wait_replicas: int = 0,
    wait_timeout: timedelta = WAIT_TIMEOUT,
) -> StoreClient:
    """Return a client for a store. Nothing is connected yet.

    At most `connections` to a server are open at once; a command waits `connect_timeout` at most for one of them to be free.
    With `wait_replicas`, every script is followed by a WAIT on its connection, for `wait_timeout` at most, and a shortfall is
    an `UnderReplicatedError`. Raises ValueError where a URL makes no sense.
    """
    location = store if isinstance(store, Location) else Location.parse(store)
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout.total_seconds(),
        "socket_timeout": command_timeout.total_seconds(),
        "username": location.username,
        "password": location.password,
        "decode_responses": False,
        "protocol": 2,
    }
    if location.tls:
        options |= {"ssl_ca_certs": location.ca, "ssl_certfile": location.certificate, "ssl_keyfile": location.key}
    wait = _Wait(replicas=wait_replicas, milliseconds=wait_timeout // timedelta(milliseconds=1))
    if location.topology is Topology.CLUSTER:
        return _ClusterClient(location, connections, connect_timeout, options, wait)
    return _ServerClient(location, connections, connect_timeout, options, wait)


@attrs.frozen(kw_only=True)
class _Wait:
    replicas: int
    milliseconds: int


class _Companions(AbstractConnection):
    """What a connection of redis-py is taught: to say when nothing was sent, and to send companions along with a command.

    A companion travels in the same packet and is answered on the same connection, which is what makes it count: WAIT knows of
    the writes of its own connection only, and so does ASKING.
    """

    wait: ClassVar[_Wait]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._asked = self._waits = False

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        packed_for = self._asked, self._waits  # in a Cluster, a command is packed before its connection is made
        asking = _ASKING.get()
        _ASKING.set(False)  # it is for the command, not for what makes the connection
        try:
            await super().connect_check_health(*args, **options)
        except (AuthenticationError, AuthorizationError, BusyLoadingError, NotSentError):
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
            raise NotSentError(str(error)) from error
        finally:
            _ASKING.set(asking)
        self._asked, self._waits = packed_for

    def pack_command(self, *args: Any) -> list[bytes]:
        self._asked = self._waits = False
        if args == ("ASKING",):
            # redis-py sends it by itself, and then the command, with any luck on the same connection.
            _ASKING.set(True)
            return super().pack_command("PING")
        packed = super().pack_command(*args)
        if _ASKING.get():
            _ASKING.set(False)
            self._asked = True
            packed = [*super().pack_command("ASKING"), *packed]
        if self.wait.replicas and args[0] in {"EVAL", "EVALSHA"}:
            self._waits = True
            packed = [*packed, *super().pack_command("WAIT", self.wait.replicas, self.wait.milliseconds)]
        return packed

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)
        except AttributeError as error:
            if self.is_connected:
                raise
            # In a Cluster, redis-py closes connections to a node that failed, some of them while others begin to use them.
            raise RedisConnectionError("the connection was closed while a command was sent") from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        asked, waits = self._asked, self._waits
        self._asked = self._waits = False
        refusal = await self._read_refusal() if asked else None
        try:
            answer = await self._read(*args, **options)
        except ResponseError as error:
            if waits:
                await self._read_refusal()
            raise (refusal or error) from None
        if waits:
            try:
                reached = await self._read()
            except ResponseError as error:  # a WAIT that is not allowed confirms nothing
                raise UnderReplicatedError(answer) from error
            if reached < self.wait.replicas:
                raise UnderReplicatedError(answer)
        return answer

    async def _read_refusal(self) -> ResponseError | None:
        """Read the answer to a companion. Whatever it is, the answers after it are still to be read."""
        try:
            await self._read()
        except ResponseError as error:
            return error
        return None

    async def _read(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except RedisConnectionError as error:
            if isinstance(error.__context__, ReadOnlyError):  # what redis-py makes of it behind sentinels
                raise StaleMasterError(str(error)) from error
            raise


def _taught(base: type[AbstractConnection], wait: _Wait) -> type[AbstractConnection]:
    return type(base.__name__, (_Companions, base), {"wait": wait})


class _Pool(redis.BlockingConnectionPool):
    """redis-py's bounded pool, which tells a command that was not sent from one whose answer was lost."""

    async def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Connection:  # noqa: ARG002
        # redis-py has given up these arguments and warns where they are passed on, None included.
        try:
            return cast("Connection", await super().get_connection())  # type: ignore[no-untyped-call]
        except (AuthenticationError, AuthorizationError, BusyLoadingError, NotSentError):
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
            raise NotSentError(str(error)) from error


class _SentinelPool(SentinelConnectionPool, _Pool):
    """The same, to the master that the sentinels name.

    A master that was replaced and does not know it yet goes on answering what it is asked, with what was true before. So the
    sentinels are asked again when the last look is older than `LOOK_AGAIN`, and whoever needs a connection waits for that.
    Where they did not answer the last time, nobody waits: they may be down, which must not stop a service whose master is not.
    """

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call]
        self._looked_at = -math.inf
        self._look: asyncio.Task[None] | None = None
        self._knows = True

    async def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Connection:  # noqa: ARG002
        now = asyncio.get_running_loop().time()
        if now - self._looked_at > LOOK_AGAIN.total_seconds():
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_for_master())
            if self._knows:
                await asyncio.shield(self._look)
        return await super().get_connection()

    async def _look_for_master(self) -> None:
        try:
            await self.get_master_address()  # type: ignore[no-untyped-call]
        except FAILURES:
            self._knows = False
        else:
            self._knows = True
        self._looked_at = asyncio.get_running_loop().time()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        await super().aclose()

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back. One that was in use when the master changed still goes to the old one."""
        if isinstance(connection, Connection) and self.master_address != (connection.host, connection.port):
            await connection.disconnect()
        await super().release(connection)


class _Sentinels(Sentinel):
    """redis-py's Sentinels, of which none is forgotten when several tasks ask at once."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where the master is, as the first says that knows; ask that one first the next time."""
        for sentinel in tuple(self.sentinels):
            try:
                masters = await sentinel.sentinel_masters()
            except (RedisConnectionError, RedisTimeoutError):
                continue
            state = cast("dict[str, dict[str, Any]]", masters).get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels.sort(key=lambda each: each is not sentinel)
                return state["ip"], state["port"]
        raise MasterNotFoundError(f"no sentinel knows a master of {service_name!r} that is up")


def _no_retries() -> Retry:
    return Retry(NoBackoff(), 0)


class _ServerClient(StoreClient):
    """A client of one server, named by itself or by sentinels."""

    def __init__(
        self, location: Location, connections: int, connect_timeout: timedelta, options: dict[str, Any], wait: _Wait
    ) -> None:
        self.location = location
        self.wait_replicas = wait.replicas
        self._sentinel: Sentinel | None = None
        self._others: dict[str, redis.Redis] = {}
        self._base: type[AbstractConnection] = SSLConnection if location.tls else Connection
        self._options = {**options, "db": location.database, "retry": _no_retries(), "retry_on_error": []}
        pool: dict[str, Any] = {
            **self._options,
            "max_connections": connections,
            "timeout": connect_timeout.total_seconds(),
        }
        if location.topology is Topology.SENTINEL:
            base = SentinelManagedSSLConnection if location.tls else SentinelManagedConnection
            self._sentinel = self._open_sentinels(connect_timeout)
            pool["connection_class"] = _taught(base, wait)
            opened: redis.ConnectionPool = _SentinelPool(location.service, self._sentinel, **pool)
        elif location.topology is Topology.SOCKET:
            pool["connection_class"] = _taught(UnixDomainSocketConnection, wait)
            opened = _Pool(path=location.path, **pool)
        else:
            host, port = location.hosts[0]
            pool["connection_class"] = _taught(self._base, wait)
            opened = _Pool(host=host, port=port, **pool)
        self._client = redis.Redis.from_pool(opened)

    def _open_sentinels(self, connect_timeout: timedelta) -> Sentinel:
        # All of them together get the time of one connection: they are asked one after the other.
        patience = connect_timeout.total_seconds() / len(self.location.hosts)
        options = {
            **self._options,
            "db": 0,
            "username": self.location.sentinel_username,
            "password": self.location.sentinel_password,
            "socket_connect_timeout": patience,
            "socket_timeout": patience,
            "ssl": self.location.tls,
        }
        return _Sentinels(self.location.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await self._client.execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in commands:
                pipeline.execute_command(*each)
            return await pipeline.execute(raise_on_error=False)

    async def reach(self) -> None:
        try:
            await self.execute_command("PING")
        except NotSentError as error:
            if isinstance(error.__cause__, MasterNotFoundError):
                raise NotSentError(await self._why_no_master()) from None
            raise
        try:
            facts = await self.execute_command("INFO", "cluster")
        except ResponseError:  # not allowed to ask; what lies on other nodes will be refused
            return
        if facts.get("cluster_enabled"):
            raise NotSentError("this server is a node of a Cluster; name the Cluster with redis+cluster://")

    async def masters(self) -> Sequence[Node]:
        if self._sentinel is not None:
            host, port = await self._sentinel.discover_master(self.location.service)
            return (Node(name=f"{host}:{port}", client=self),)
        if self.location.topology is Topology.SOCKET:
            return (Node(name=self.location.path, client=self),)
        host, port = self.location.hosts[0]
        return (Node(name=f"{host}:{port}", client=self),)

    async def replicas(self) -> Sequence[Node]:
        facts = await self.execute_command("INFO", "replication")
        found = (value for name, value in facts.items() if name.startswith("slave") and isinstance(value, dict))
        return tuple(self._open_other(str(each["ip"]), int(each["port"])) for each in found)

    async def sentinels(self) -> Sequence[Node]:
        if self._sentinel is None:
            return ()
        return tuple(
            Node(name="{host}:{port}".format(**each.connection_pool.connection_kwargs), client=each)
            for each in self._sentinel.sentinels
        )

    async def _why_no_master(self) -> str:
        """Return, for a person, what each sentinel says when it is asked for the master."""
        return "no master was found; " + ", ".join(
            [f"{node.name} {await self._said_by(node)}" for node in await self.sentinels()]
        )

    async def _said_by(self, sentinel: Node) -> str:
        try:
            named = await sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.location.service)
        except (AuthenticationError, AuthorizationError, NoPermissionError):
            return "refuses the sentinels' user or password"
        except FAILURES:
            return "cannot be reached"
        return "takes the master to be down" if named else f"knows no service {self.location.service}"

    def _open_other(self, host: str, port: int) -> Node:
        name = f"{host}:{port}"
        if name not in self._others:
            pool = _Pool(
                host=host,
                port=port,
                max_connections=1,
                connection_class=_taught(self._base, _Wait(replicas=0, milliseconds=0)),
                **self._options,
            )
            self._others[name] = redis.Redis.from_pool(pool)
        return Node(name=name, client=self._others[name])

    async def aclose(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for each in self._others.values():
                stack.push_async_callback(each.aclose)
            if self._sentinel is not None:
                stack.push_async_callback(self._sentinel.aclose)
            stack.push_async_callback(self._client.aclose)


class _FirstIsKey(AsyncCommandsParser):
    """Where the key stands in a command: right after its name, in every one that is sent here.

    redis-py would ask a node for a table of all commands, and one node only, which may be the one that is down.
    """

    async def initialize(self, node: object = None) -> None:
        """Nothing has to be asked."""

    async def get_keys(self, *args: Any) -> tuple[str, ...]:
        """Return the key of a command."""
        return (args[1],)


class _Cluster(RedisCluster):
    """redis-py's client of a cluster, without what lets one command's failure reach others."""

    @property
    def knows_its_nodes(self) -> bool:
        """Whether the next command needs no look at the cluster's layout first."""
        return not self._initialize

    @property
    def has_a_layout(self) -> bool:
        """Whether there is a layout to go by, be it old."""
        return bool(self.nodes_manager.slots_cache)

    def trust_layout(self, *, yes: bool) -> None:
        """Say whether commands may go by the layout that is there."""
        self._initialize = not yes

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> ClusterNode | None:
        """Return a node; one that is not known yet, to which a slot is on its way, is got to know."""
        node = super().get_node(host, port, node_name)
        if node is None and node_name is not None:
            new_host, _, new_port = node_name.rpartition(":")
            node = ClusterNode(new_host, int(new_port), "primary", **self.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return node

    async def aclose(self) -> None:
        """Look at the layout again before the next command.

        redis-py calls this itself whenever it doubts the layout, and would close every connection, those in use included.
        """
        self.trust_layout(yes=False)

    async def close_all(self) -> None:
        """Close all connections."""
        await super().aclose()


class _ClusterClient(StoreClient):
    """A client of a cluster."""

    has_several_masters = True

    def __init__(
        self, location: Location, connections: int, connect_timeout: timedelta, options: dict[str, Any], wait: _Wait
    ) -> None:
        self.location = location
        self.wait_replicas = wait.replicas
        self._patience = connect_timeout.total_seconds()
        self._looking: asyncio.Task[object] | None = None
        self._cluster = _Cluster(
            startup_nodes=[ClusterNode(host, port) for host, port in location.hosts],
            require_full_coverage=False,
            reinitialize_steps=0,
            max_connections=connections,
            retry=_no_retries(),
            ssl=location.tls,
            **options,
        )
        self._cluster.commands_parser = _FirstIsKey()
        kind = _taught(SSLConnection if location.tls else Connection, wait)
        self._cluster.connection_kwargs["connection_class"] = kind
        for node in self._cluster.startup_nodes:
            node.connection_class = cast("type[Connection]", kind)
            # They are asked one after the other, for the layout only.
            node.connection_kwargs["socket_timeout"] = self._patience / len(location.hosts)
            node.connection_kwargs["socket_connect_timeout"] = self._patience / len(location.hosts)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if not self._cluster.knows_its_nodes:
            if self._cluster.has_a_layout:
                self._look_again()
            else:
                await self._look()
        give_up_at = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                return await self._cluster.execute_command(*args, **options)
            except MaxConnectionsError as error:
                if asyncio.get_running_loop().time() > give_up_at:
                    raise NotSentError("no connection to this node was free in time") from error
                await asyncio.sleep(_BUSY_PAUSE)
            except RedisClusterException as error:  # raised before anything is sent, and no RedisError
                raise NotSentError(str(error)) from error
            except ClusterError as error:
                if isinstance(error, ResponseError):
                    raise
                raise NotSentError("the nodes of the cluster send a command from one to the other") from error

    async def reach(self) -> None:
        await self._look_now()

    async def masters(self) -> Sequence[Node]:
        await self._look_now()
        return _nodes(self._cluster.get_primaries())

    async def replicas(self) -> Sequence[Node]:
        await self._look_now()
        return _nodes(self._cluster.get_replicas())

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._cluster.close_all()

    def _look_again(self) -> None:
        """Learn the layout anew, while commands go on by the old one: one silent node must not stop those to the others."""
        self._cluster.trust_layout(yes=True)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._cluster.nodes_manager.initialize())
            self._looking.add_done_callback(self._looked_again)

    def _looked_again(self, task: asyncio.Task[object]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._cluster.trust_layout(yes=False)

    async def _look(self) -> None:
        """Learn the layout. All who need it wait for one look, and who gives up does not end it for the others."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._cluster.initialize())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(self._looking)
        except TimeoutError as error:
            raise NotSentError("the nodes of the cluster did not say in time who has which keys") from error
        except (RedisClusterException, *FAILURES) as error:
            if isinstance(error.__cause__, (AuthenticationError, AuthorizationError)):
                raise error.__cause__ from None
            raise NotSentError(str(error)) from error

    async def _look_now(self) -> None:
        await self._cluster.aclose()
        await self._look()


def _nodes(found: Sequence[ClusterNode]) -> tuple[Node, ...]:
    return tuple(Node(name=node.name, client=node) for node in found)


async def check_connection(client: StoreClient) -> None:
    """Return if a server answers and lets us in; `StoreUnavailable` says, for a person, why not."""
    try:
        await client.reach()
    except (AuthenticationError, AuthorizationError) as error:
        raise StoreUnavailable("the store refuses the user or the password that it was given") from error
    except ResponseError as error:
        if isinstance(error, NoPermissionError):
            raise StoreUnavailable("the store lets this user in and allows it nothing, not even PING") from error
        raise StoreUnavailable(f"the store refuses a PING: {str(error).partition(' ')[0]}") from error
    except FAILURES as error:
        raise StoreUnavailable(f"the store cannot be reached: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return the system's own words for what failed, which name a host and a port but never a password."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    system = [cause for cause in causes if isinstance(cause, OSError)]
    # A time-out is an OSError without words; then redis-py has some.
    text = system[-1].strerror or str(system[-1]) if system else ""
    return (text or str(error) or type(error).__name__).partition("\n")[0]
