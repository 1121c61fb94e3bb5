"""A client of a Cluster: redis-py's, without what lets one node's failure reach the accounts of others."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ClusterError,
    MaxConnectionsError,
    MovedError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pickguard.adapters.redis.autopipeline import Autopipeline
from pickguard.adapters.redis.clients import Node, StoreClient
from pickguard.adapters.redis.commands import FAILURES, NotSentError
from pickguard.adapters.redis.location import Location
from pickguard.adapters.redis.wire import Companions, Wait, no_retries, taught

_BUSY_PAUSE = 0.002


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
        """Close all connections, also where the layout is in doubt, of which redis-py takes it that there are none."""
        self.trust_layout(yes=True)
        await super().aclose()


class ClusterClient(StoreClient):
    """A client of a cluster."""

    has_several_masters = True

    def __init__(
        self, location: Location, connections: int, connect_timeout: timedelta, options: dict[str, Any], wait: Wait
    ) -> None:
        self.location = location
        self.wait_replicas = wait.replicas
        self._patience = connect_timeout.total_seconds()
        self._command_patience: float = options["socket_timeout"]
        self._pipelines: dict[str, Autopipeline] = {}
        self._looking: asyncio.Task[object] | None = None
        self._cluster = _Cluster(
            startup_nodes=[ClusterNode(host, port) for host, port in location.hosts],
            require_full_coverage=False,
            reinitialize_steps=0,
            max_connections=connections,
            retry=no_retries(),
            ssl=location.tls,
            **options,
        )
        self._cluster.commands_parser = _FirstIsKey()
        kind = taught(SSLConnection if location.tls else Connection, wait)
        self._cluster.connection_kwargs["connection_class"] = kind
        for node in self._cluster.startup_nodes:
            node.connection_class = cast("type[Connection]", kind)
            # They are asked one after the other, for the layout only.
            node.connection_kwargs["socket_timeout"] = self._patience / len(location.hosts)
            node.connection_kwargs["socket_connect_timeout"] = self._patience / len(location.hosts)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `StoreClient.execute_command`."""
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
            except KeyError as error:  # what redis-py says of a slot that nobody has
                self._cluster.trust_layout(yes=False)
                raise NotSentError("no node of the cluster has this key's slot") from error
            except ClusterError as error:
                if isinstance(error, ResponseError):
                    raise
                raise NotSentError("the nodes of the cluster send a command from one to the other") from error

    async def ask(self, *args: Any) -> Any:
        """See `StoreClient.ask`. What a node cannot answer, because it is gone or the key is, is asked for in the other way."""
        if self._cluster.knows_its_nodes:
            with suppress(KeyError, SlotNotCoveredError):  # redis-py says the one or the other of a slot that nobody has
                node = self._cluster.nodes_manager.get_node_from_slot(self._cluster.keyslot(args[1]))
                try:
                    return await self._pipeline(node).ask(*args)
                except (MovedError, AskError, TryAgainError, ClusterDownError):
                    pass
                except RedisTimeoutError:  # a second try would wait as long again, but the next one need not come here
                    self._cluster.trust_layout(yes=False)
                    raise
                except RedisConnectionError as error:
                    if isinstance(error.__cause__, RedisTimeoutError):  # so would a second try to connect
                        self._cluster.trust_layout(yes=False)
                        raise
        return await self.execute_command(*args)

    async def reach(self) -> None:
        """See `StoreClient.reach`."""
        await self._look_now()

    async def masters(self) -> Sequence[Node]:
        """See `StoreClient.masters`."""
        await self._look_now()
        return _nodes(self._cluster.get_primaries())

    async def replicas(self) -> Sequence[Node]:
        """See `StoreClient.replicas`."""
        await self._look_now()
        return _nodes(self._cluster.get_replicas())

    async def aclose(self) -> None:
        """See `StoreClient.aclose`."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for pipeline in self._pipelines.values():
            await pipeline.aclose()
        await self._cluster.close_all()

    def _pipeline(self, node: ClusterNode) -> Autopipeline:
        if node.name not in self._pipelines:
            self._pipelines[node.name] = Autopipeline(_Source(node), patience=self._command_patience)
        return self._pipelines[node.name]

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
        try:
            await self._look()
        except NotSentError:
            if not self._cluster.has_a_layout:
                raise  # an old layout is better than none: one silent node must not stop a start


class _Source:
    """Connections to a node, for commands that are sent together. One that is no master any more sends them away."""

    def __init__(self, node: ClusterNode) -> None:
        self._node = node

    async def connect(self) -> Companions:
        connection = cast("Companions", self._node.connection_class(**self._node.connection_kwargs))
        await connection.open()
        return connection

    def is_current(self, connection: Companions) -> bool:  # noqa: ARG002 (a node that is not the key's owner says so)
        return True

    async def confirm(self, connection: Companions) -> bool:  # noqa: ARG002
        return True


def _nodes(found: Sequence[ClusterNode]) -> tuple[Node, ...]:
    return tuple(Node(name=node.name, client=node) for node in found)
