"""Connections to a store of any topology, all of one kind: every command is sent once, and every failure says what it means."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, cast

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import MasterNotFoundError, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

from pickguard.adapters.redis.autopipeline import Autopipeline
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.cluster import ClusterClient
from pickguard.adapters.redis.commands import FAILURES, NotSentError
from pickguard.adapters.redis.location import Location, Topology
from pickguard.adapters.redis.sentinels import SentinelPool, Sentinels
from pickguard.adapters.redis.wire import Companions, Pool, Wait, no_retries, taught
from pickguard.domain.model.errors import StoreUnavailable

WAIT_TIMEOUT: Final = timedelta(milliseconds=500)
"""How long a write waits for its replicas, unless told otherwise."""


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

    At most `connections` to a server are open at once, and one more for commands that are sent together; a command waits
    `connect_timeout` at most for one of them to be free.
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
    wait = Wait(replicas=wait_replicas, milliseconds=wait_timeout // timedelta(milliseconds=1))
    if location.topology is Topology.CLUSTER:
        return ClusterClient(location, connections, connect_timeout, options, wait)
    return _ServerClient(location, connections, connect_timeout, options, wait)


class _ServerClient(StoreClient):
    """A client of one server, named by itself or by sentinels."""

    def __init__(
        self, location: Location, connections: int, connect_timeout: timedelta, options: dict[str, Any], wait: Wait
    ) -> None:
        self.location = location
        self.wait_replicas = wait.replicas
        self._sentinel: Sentinels | None = None
        self._others: dict[str, redis.Redis] = {}
        self._base: type[AbstractConnection] = SSLConnection if location.tls else Connection
        self._options = {**options, "db": location.database, "retry": no_retries(), "retry_on_error": []}
        pool: dict[str, Any] = {
            **self._options,
            "max_connections": connections,
            "timeout": connect_timeout.total_seconds(),
        }
        if location.topology is Topology.SENTINEL:
            base = SentinelManagedSSLConnection if location.tls else SentinelManagedConnection
            self._sentinel = self._open_sentinels(connect_timeout)
            pool["connection_class"] = taught(base, wait)
            opened: redis.ConnectionPool = SentinelPool(location.service, self._sentinel, **pool)
        elif location.topology is Topology.SOCKET:
            pool["connection_class"] = taught(UnixDomainSocketConnection, wait)
            opened = Pool(path=location.path, **pool)
        else:
            host, port = location.hosts[0]
            pool["connection_class"] = taught(self._base, wait)
            opened = Pool(host=host, port=port, **pool)
        self._client = redis.Redis.from_pool(opened)
        source = _Master(opened) if isinstance(opened, SentinelPool) else _Server(opened)
        self._pipeline = Autopipeline(source, patience=options["socket_timeout"])

    def _open_sentinels(self, connect_timeout: timedelta) -> Sentinels:
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
        return Sentinels(self.location.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await self._client.execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def ask(self, *args: Any) -> "asyncio.Future[Any]":
        return self._pipeline.ask(*args)

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
            pool = Pool(
                host=host,
                port=port,
                max_connections=1,
                connection_class=taught(self._base, Wait(replicas=0, milliseconds=0)),
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
            stack.push_async_callback(self._pipeline.aclose)


class _Server:
    """Connections to one server, for commands that are sent together."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool

    async def connect(self) -> Companions:
        connection = cast("Companions", self._pool.make_connection())  # type: ignore[no-untyped-call]
        await connection.open()
        return connection

    def is_current(self, connection: Companions) -> bool:  # noqa: ARG002 (see _Master)
        return True

    async def confirm(self, connection: Companions) -> bool:  # noqa: ARG002
        return True


class _Master:
    """Connections to the master that sentinels name, for commands that are sent together."""

    def __init__(self, pool: SentinelPool) -> None:
        self._pool = pool

    async def connect(self) -> Companions:
        if not self._pool.is_fresh:
            await self._pool.look_again()
        connection = cast("Companions", self._pool.make_connection())  # type: ignore[no-untyped-call]
        try:
            await connection.open()
        except MasterNotFoundError as error:  # which comes before anything that says that nothing was sent
            raise NotSentError(str(error)) from error
        return connection

    def is_current(self, connection: Companions) -> bool:
        return self._pool.is_fresh and self._pool.leads_to_master(connection)

    async def confirm(self, connection: Companions) -> bool:
        if not self._pool.is_fresh:
            await self._pool.look_again()
        return self._pool.leads_to_master(connection)


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
