"""The API on a real store, and the store itself, to be looked at."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from ipaddress import ip_network

import attrs
import pytest
import redis.asyncio

from pickguard.adapters.background import LoopDeferred
from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.domain.services.registration import RegistrationMode
from pickguard.entrypoints.bootstrap import Services, build_services
from tests.contracts.http_mail import HttpMailContract, Post
from tests.support.fakes import FakeClock, RecordedMail, cheap_hasher
from tests.support.http import SETTINGS, Api, serving

PATIENCE = timedelta(seconds=20)
"""That the machine is busy is no failure of the store."""


@pytest.fixture
async def store(valkey: Engine) -> AsyncGenerator[redis.asyncio.Redis]:
    """An empty server, as somebody sees it who may see everything."""
    async with redis.asyncio.Redis(unix_socket_path=str(valkey.socket_path)) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def client(valkey: Engine, store: redis.asyncio.Redis) -> AsyncGenerator[StoreClient]:
    """The same server, as the service sees it."""
    del store  # which is empty by now
    async with open_client(valkey.url, connections=16, connect_timeout=PATIENCE, command_timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def api(client: StoreClient, clock: FakeClock) -> AsyncGenerator[Api]:
    """The API on that server, with mail, so that every resource is there."""
    async with (
        LoopDeferred(pauses=(), spread=timedelta(0)) as deferred,
        serving(
            RedisAccounts(client),
            receipts=RedisReceipts(client),
            clock=clock,
            mailer=RecordedMail(),
            deferred=deferred,
        ) as api,
    ):
        yield api


Serve = Callable[..., AbstractAsyncContextManager[Post]]


@pytest.fixture
def serve(client: StoreClient) -> Serve:
    """What serves the API on that server, with mail and with limits. The test is a trusted proxy if it likes."""

    def serve(
        mode: RegistrationMode = RegistrationMode.OPEN, *, proxies: tuple[str, ...] = ()
    ) -> AbstractAsyncContextManager[Post]:
        settings = attrs.evolve(SETTINGS, trusted_proxies=tuple(map(ip_network, proxies)))
        accounts, receipts = RedisAccounts(client), RedisReceipts(client)
        return HttpMailContract.serve(accounts, receipts, RedisRateLimiter(client), mode=mode, settings=settings)

    return serve


@pytest.fixture
async def post(serve: Serve) -> AsyncGenerator[Post]:
    """The API with mail and limits, to which clients connect themselves."""
    async with serve() as post:
        yield post


@pytest.fixture
async def proxied(serve: Serve) -> AsyncGenerator[Post]:
    """The API with mail and limits, behind a proxy that it trusts: the test, which connects from many addresses."""
    async with serve(proxies=("127.0.0.1",)) as post:
        yield post


@pytest.fixture
async def private(serve: Serve) -> AsyncGenerator[Post]:
    """The API with mail, limits and private registration, behind a proxy that it trusts."""
    async with serve(RegistrationMode.PRIVATE, proxies=("127.0.0.1",)) as post:
        yield post


@pytest.fixture
async def operator(client: StoreClient) -> AsyncGenerator[Services]:
    """The use cases of another process on that server, as an operator has them in a program."""
    async with cheap_hasher() as hasher:
        yield build_services(accounts=RedisAccounts(client), hasher=hasher)
