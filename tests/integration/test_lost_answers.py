"""Answers lost on the way from a real server, as a proxy loses them: no double effect, and no false 'taken'."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import redis.asyncio

from pickguard import OutcomeUnknown, StoreUnavailable
from pickguard.adapters.engine import Engine
from pickguard.adapters.redis import scripts
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from tests.support.accounts import an_account, at_address, operation, renamed
from tests.support.engines import PROGRAMS
from tests.support.faults import Proxy, broken_invariants

pytestmark = pytest.mark.parametrize("engine", PROGRAMS, indirect=True)

SECOND = timedelta(seconds=1)


@asynccontextmanager
async def behind_proxy(engine: Engine) -> AsyncGenerator[tuple[RedisAccounts, Proxy]]:
    proxy = Proxy(engine.socket_path)
    path = engine.socket_path.with_name("proxy.sock")
    path.unlink(missing_ok=True)
    async with (
        redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as direct,
        proxy.listening(path),
        open_client(f"unix://{path}", connections=4, connect_timeout=5 * SECOND, command_timeout=5 * SECOND) as client,
    ):
        for script in (scripts.CLAIM, scripts.TAKE_OVER, scripts.RELEASE, scripts.SAVE, scripts.REMOVE):
            await direct.script_load(script.source)
        yield RedisAccounts(client), proxy
        assert await broken_invariants(direct) == []


def once_for(script: scripts.Script, proxy: Proxy) -> None:
    """Drop the answer to the next run of a script."""
    proxy.drop = lambda command: script.digest.encode() in command and proxy.dropped == 0


async def test_a_registration_whose_claim_was_not_confirmed_succeeds(engine: Engine) -> None:
    async with behind_proxy(engine) as (accounts, proxy):
        once_for(scripts.CLAIM, proxy)
        account = an_account()
        await accounts.add(account, operation=operation())
        assert proxy.dropped == 1
        assert await accounts.find(account.user.email) is not None


@pytest.mark.would_have_caught("redis-py-261")
async def test_a_registration_that_was_not_confirmed_succeeds(engine: Engine) -> None:
    async with behind_proxy(engine) as (accounts, proxy):
        once_for(scripts.SAVE, proxy)
        account = an_account()
        await accounts.add(account, operation=operation())
        assert proxy.dropped == 1
        snapshot = await accounts.get(account.user.id)
        assert snapshot is not None
        assert snapshot.version == 1


async def test_a_change_that_was_not_confirmed_happens_once(engine: Engine) -> None:
    async with behind_proxy(engine) as (accounts, proxy):
        account = an_account()
        await accounts.add(account, operation=operation())
        before = await accounts.get(account.user.id)
        assert before is not None
        once_for(scripts.SAVE, proxy)
        await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
        after = await accounts.get(account.user.id)
        assert after is not None
        assert (proxy.dropped, after.version, after.account.user.name.value) == (1, 2, "Countess")


async def test_a_change_of_address_with_every_kind_of_answer_lost_succeeds(engine: Engine) -> None:
    for script in (scripts.CLAIM, scripts.SAVE, scripts.RELEASE):
        async with behind_proxy(engine) as (accounts, proxy):
            account = an_account(f"{script.digest}@example.com")
            await accounts.add(account, operation=operation())
            before = await accounts.get(account.user.id)
            assert before is not None
            once_for(script, proxy)
            moved = at_address(before.account, f"new-{script.digest}@example.com")
            await accounts.save(before, moved, operation=operation())
            assert proxy.dropped == 1
            assert await accounts.find(moved.user.email) is not None
            await accounts.add(an_account(account.user.email.value), operation=operation())


async def test_a_removal_that_was_not_confirmed_frees_the_address(engine: Engine) -> None:
    async with behind_proxy(engine) as (accounts, proxy):
        account = an_account()
        await accounts.add(account, operation=operation())
        before = await accounts.get(account.user.id)
        assert before is not None
        once_for(scripts.REMOVE, proxy)
        await accounts.remove(before, operation=operation())
        assert proxy.dropped == 1
        await accounts.add(an_account(), operation=operation())


@pytest.mark.would_have_caught("redis-py-261")
async def test_a_write_that_nobody_confirms_is_unknown_and_was_sent_once(engine: Engine) -> None:
    async with behind_proxy(engine) as (accounts, proxy):
        account = an_account()
        await accounts.add(account, operation=operation())
        before = await accounts.get(account.user.id)
        assert before is not None
        sent = []

        def drop(command: bytes) -> bool:
            sent.append(command)
            return True

        proxy.drop = drop
        with pytest.raises(OutcomeUnknown):
            await accounts.save(before, renamed(before.account, "Countess"), operation=operation())
        assert sum(scripts.SAVE.digest.encode() in command for command in sent) == 1
        with pytest.raises(StoreUnavailable):
            await accounts.get(account.user.id)
        proxy.drop = lambda _: False
        after = await accounts.get(account.user.id)
        assert after is not None
        assert (after.version, after.account.user.name.value) == (2, "Countess")
