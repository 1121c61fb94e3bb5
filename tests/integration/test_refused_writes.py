"""A server that answers and does not write: out of memory, or a replica. Nothing happens, and nothing is left behind."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

import attrs
import pytest
import redis.asyncio

from pickguard import StoreUnavailable
from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from tests.support.accounts import an_account, at_address, operation, renamed
from tests.support.engines import PROGRAMS
from tests.support.faults import broken_invariants, lost_addresses

Refusal = Callable[[redis.asyncio.Redis], Awaitable[None]]

pytestmark = pytest.mark.parametrize("engine", PROGRAMS, indirect=True)


async def replicate(client: redis.asyncio.Redis, host: str, port: str) -> None:
    await client.execute_command("REPLICAOF", host, port)  # type: ignore[no-untyped-call]


@pytest.fixture
async def direct(engine: Engine) -> AsyncGenerator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as client:
        yield client
        await client.config_set("maxmemory", 0)
        await replicate(client, "NO", "ONE")


@pytest.fixture
async def accounts(engine: Engine) -> AsyncGenerator[RedisAccounts]:
    second = timedelta(seconds=1)
    async with open_client(engine.url, connections=4, connect_timeout=5 * second, command_timeout=5 * second) as client:
        yield RedisAccounts(client)


async def refuse_by_memory(direct: redis.asyncio.Redis) -> None:
    await direct.config_set("maxmemory", 1)


async def refuse_by_role(direct: redis.asyncio.Redis) -> None:
    await replicate(direct, "127.0.0.1", "1")


@pytest.mark.requirement(79)
@pytest.mark.parametrize("refuse", [refuse_by_memory, refuse_by_role])
async def test_a_refused_write_is_no_write(accounts: RedisAccounts, direct: redis.asyncio.Redis, refuse: Refusal) -> None:
    account = an_account(sessions=1)
    await accounts.add(account, operation=operation())
    before = await accounts.get(account.user.id)
    assert before is not None
    await refuse(direct)
    for write in (
        accounts.check_writable(),
        accounts.add(an_account("new@example.com"), operation=operation()),
        accounts.save(before, renamed(account, "Countess"), operation=operation()),
        accounts.save(before, at_address(account, "new@example.com"), operation=operation()),
    ):
        with pytest.raises(StoreUnavailable):
            await write
    assert await accounts.get(account.user.id) == before
    assert await accounts.read_session(account.user.id, account.sessions[0].digest) is not None
    await direct.config_set("maxmemory", 0)
    await replicate(direct, "NO", "ONE")
    assert await broken_invariants(direct) == []
    assert await lost_addresses(direct, "new@example.com") == []


async def test_where_memory_is_full_sessions_can_be_ended_and_accounts_removed(
    accounts: RedisAccounts, direct: redis.asyncio.Redis
) -> None:
    account = an_account(sessions=2)
    await accounts.add(account, operation=operation())
    before = await accounts.get(account.user.id)
    assert before is not None
    await refuse_by_memory(direct)
    logged_out = attrs.evolve(account, sessions=account.sessions[:1])
    await accounts.save(before, logged_out, operation=operation())
    after = await accounts.get(account.user.id)
    assert after is not None
    assert after.account == logged_out
    await accounts.remove(after, operation=operation())
    assert await direct.keys("*") == []


async def test_memory_that_runs_out_between_claim_and_save_gives_the_claim_back(
    accounts: RedisAccounts, direct: redis.asyncio.Redis
) -> None:
    class FullAfterClaim:
        """Lets the claim through and fills the server before the save."""

        def __init__(self, client: redis.asyncio.Redis) -> None:
            self._client = client

        async def execute_command(self, *args: object, **options: object) -> object:
            answer = await self._client.execute_command(*args, **options)  # type: ignore[no-untyped-call]
            if isinstance(answer, list):
                await refuse_by_memory(direct)
            return answer

    await accounts.add(an_account("warm@example.com"), operation=operation())
    with pytest.raises(StoreUnavailable):
        await RedisAccounts(FullAfterClaim(direct)).add(an_account("new@example.com"), operation=operation())
    await direct.config_set("maxmemory", 0)
    await accounts.add(an_account("new@example.com"), operation=operation())
    assert await broken_invariants(direct) == []
