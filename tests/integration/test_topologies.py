"""The account contract behind Sentinels and in a Cluster, with passwords: the same adapter, the same promises."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import pytest

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.cluster import ClusterClient
from pickguard.adapters.redis.connection import check_connection, open_client
from pickguard.adapters.redis.directory import RedisDirectory
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.ports.receipts import Receipts
from pickguard.testing.contracts.account_directory import AccountDirectoryContract
from pickguard.testing.contracts.account_repository import AccountRepositoryContract
from pickguard.testing.contracts.rate_limiter import Limiters
from pickguard.testing.contracts.receipts import ReceiptsContract
from tests.contracts.limits import LimitsContract
from tests.support.topologies import Cluster, Sentinels

AnyTopology = TypeVar("AnyTopology", Sentinels, Cluster)

SECOND = timedelta(seconds=1)
PASSWORD = "a-password:with/odd@signs"


@contextmanager
def started(topology: AnyTopology) -> Generator[AnyTopology]:
    """Start servers for several tests, each of which has an event loop of its own: theirs is in a thread."""
    loop = asyncio.new_event_loop()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(loop.run_until_complete, topology.__aenter__()).result()
        try:
            yield topology
        finally:
            thread.submit(loop.run_until_complete, topology.__aexit__()).result()
            thread.submit(loop.close).result()


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sentinels]:
    with started(Sentinels(tmp_path_factory.mktemp("sentinels"), password=PASSWORD)) as topology:
        yield topology


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with started(Cluster(tmp_path_factory.mktemp("cluster"), password=PASSWORD)) as topology:
        yield topology


def opened(url: str) -> StoreClient:
    return open_client(
        url, connections=16, connect_timeout=5 * SECOND, command_timeout=5 * SECOND, wait_replicas=1, wait_timeout=4 * SECOND
    )


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncGenerator[StoreClient]:
    topology: Sentinels | Cluster = request.getfixturevalue(request.param)
    async with opened(topology.url) as client:
        for master in await client.masters():
            await master.client.execute_command("FLUSHALL")
        yield client


BOTH = pytest.mark.parametrize("client", ["sentinels", "cluster"], indirect=True)


@BOTH
class TestAccounts(AccountRepositoryContract):
    @pytest.fixture
    def accounts(self, client: StoreClient) -> RedisAccounts:
        return RedisAccounts(client)


@BOTH
class TestDirectory(AccountDirectoryContract):
    @pytest.fixture
    def accounts(self, client: StoreClient) -> RedisAccounts:
        return RedisAccounts(client)

    @pytest.fixture
    def directory(self, client: StoreClient) -> RedisDirectory:
        return RedisDirectory(client)


@BOTH
class TestReceipts(ReceiptsContract):
    @pytest.fixture
    def receipts(self, client: StoreClient) -> Receipts:
        return RedisReceipts(client)


@BOTH
class TestLimits(LimitsContract):
    @pytest.fixture
    def limiters(self, client: StoreClient) -> Limiters:
        return lambda rules: RedisRateLimiter(client, rules=rules)


@pytest.mark.parametrize("topology", ["sentinels", "cluster"])
async def test_a_wrong_password_is_said_in_one_line_without_it(topology: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(topology).url
    scheme, _, rest = url.partition("://")
    for wrong in (url.replace("with", "without"), f"{scheme}://{rest.partition('@')[2]}"):
        assert wrong != url
        async with opened(wrong) as client:
            with pytest.raises(StoreUnavailable) as refused:
                await check_connection(client)
        message = str(refused.value)
        assert "password" in message
        assert "odd" not in message
        assert "\n" not in message


@BOTH
async def test_the_servers_of_a_store_can_be_asked_one_by_one(client: StoreClient) -> None:
    masters, replicas, watchers = await client.masters(), await client.replicas(), await client.sentinels()
    assert (len(masters), len(replicas), len(watchers)) in {(1, 2, 3), (3, 3, 0)}
    for role, nodes in ((b"master", masters), (b"slave", replicas), (b"sentinel", watchers)):
        for node in nodes:
            assert (await node.client.execute_command("ROLE"))[0] == role
            assert node.name.startswith("127.0.0.1:")


async def test_a_service_that_no_sentinel_knows_is_said_so(sentinels: Sentinels) -> None:
    async with opened(sentinels.url.replace("/accounts", "/unknown")) as client:
        with pytest.raises(StoreUnavailable, match="knows no service unknown") as refused:
            await check_connection(client)
    assert "\n" not in str(refused.value)


async def test_what_each_sentinel_says_is_said_where_there_is_no_master(sentinels: Sentinels) -> None:
    host = sentinels.url.rpartition("@")[2].partition(",")[0]
    url = f"redis+sentinel://{host},127.0.0.1:1/accounts?sentinel_password=geheim"
    async with opened(url) as client:
        with pytest.raises(StoreUnavailable, match=f"{host} refuses .* 127.0.0.1:1 cannot be reached") as refused:
            await check_connection(client)
    assert "geheim" not in str(refused.value)


async def test_a_server_that_is_no_sentinel_does_not_hide_those_that_are(sentinels: Sentinels) -> None:
    plain = sentinels.servers[0].address
    async with opened(sentinels.url.replace("@", f"@{plain},")) as client:
        await check_connection(client)


async def test_no_connection_stays_open_where_the_layout_was_in_doubt(cluster: Cluster) -> None:
    async with opened(cluster.url) as client:
        await asyncio.gather(*(client.execute_command("GET", f"pg:{number}") for number in range(32)))
        assert isinstance(client, ClusterClient)
        client._cluster.trust_layout(yes=False)
    gc.collect()  # what was left open would be a warning, which is an error


async def test_one_server_named_as_a_cluster_is_said_so(sentinels: Sentinels) -> None:
    master = sentinels.servers[0]
    async with opened(master.url.replace("redis://", "redis+cluster://")) as client:
        with pytest.raises(StoreUnavailable, match="Cluster") as refused:
            await check_connection(client)
    assert "\n" not in str(refused.value)


async def test_a_cluster_named_as_one_server_is_said_so(cluster: Cluster) -> None:
    # Half of the addresses would lie elsewhere, which is better known before the first user comes.
    async with opened(cluster.servers[0].url) as client:
        with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
            await check_connection(client)
