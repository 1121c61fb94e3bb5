"""A registration that names itself, sent again after each fault at each command: one account, and the same answer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis

from pickguard import AddressTaken, AddressUndecided, IdempotencyKeyReused, Services, Unavailable, User, build_services
from pickguard.adapters.argon2 import Argon2Hasher
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.commands import Client
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.ports.clock import Clock
from tests.support.fakes import GOOD_PASSWORD, OTHER_PASSWORD, FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.faults import Crash, FaultyClient, age_claims, broken_invariants

KEY = "5a0b4a0e-31d6-4d5e-8f0b-6c1de4a2c1b7"
FAULTS = ("crash before", "crash after", "lose command", "lose answer")


def services_on(client: Client, hasher: Argon2Hasher, clock: Clock) -> Services:
    return build_services(
        accounts=RedisAccounts(client),
        receipts=RedisReceipts(client),
        hasher=hasher,
        clock=clock,
        events=RecordedEvents(),
        common_passwords=NoCommonPasswords(),
    )


@asynccontextmanager
async def a_server() -> AsyncGenerator[FakeAsyncRedis]:
    async with FakeAsyncRedis(version=(7,), protocol=2) as client:
        yield client


async def register(services: Services, *, key: str | None = KEY, password: str = GOOD_PASSWORD, name: str = "Ada") -> User:
    return await services.registration.register(name=name, email="ada@example.com", password=password, idempotency_key=key)


async def commands_of_a_registration(hasher: Argon2Hasher, clock: Clock) -> int:
    async with a_server() as client:
        counting = FaultyClient(client, at=0, fault="")
        await register(services_on(counting, hasher, clock))
    return counting.sent


async def addresses_of(client: Any) -> int:
    return len([key async for key in client.scan_iter(match="pg:{*")])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_repeat_after_a_fault_at_any_command_makes_one_account_and_gets_its_user(fault: str) -> None:
    clock = FakeClock()
    async with cheap_hasher() as hasher:
        sent = await commands_of_a_registration(hasher, clock)
        for at in range(1, sent + 1):
            async with a_server() as client:
                first: User | None = None
                try:
                    first = await register(services_on(FaultyClient(client, at=at, fault=fault), hasher, clock))
                except (Crash, Unavailable):
                    await age_claims(client)  # a claim without account holds others up for the rest of its lease
                healthy = services_on(client, hasher, clock)
                second = await register(healthy)
                assert first in (None, second), f"command {at}"
                assert await register(healthy) == second
                assert await addresses_of(client) == 1, f"command {at}"
                assert await broken_invariants(client) == [], f"command {at}"
                with pytest.raises(IdempotencyKeyReused):
                    await register(healthy, password=OTHER_PASSWORD)
                with pytest.raises(AddressTaken):
                    await register(healthy, key=None)


async def test_a_repeat_that_meets_faults_itself_is_repeated_as_well() -> None:
    clock = FakeClock()
    async with cheap_hasher() as hasher, a_server() as client:
        for at in range(1, 9):  # each try gets a command further, and none of them ends
            with pytest.raises((Crash, Unavailable)):
                await register(services_on(FaultyClient(client, at=1 + at % 4, fault="crash after"), hasher, clock))
            await age_claims(client)
        user = await register(services_on(client, hasher, clock))
        assert await register(services_on(client, hasher, clock)) == user
        assert await addresses_of(client) == 1


async def test_the_receipt_outlives_the_account() -> None:
    async with cheap_hasher() as hasher, a_server() as client:
        services = services_on(client, hasher, FakeClock())
        user = await register(services)
        token = (await services.authentication.log_in(email="ada@example.com", password=GOOD_PASSWORD)).token
        await services.profiles.delete(token.reveal())
        assert await register(services) == user
        assert await addresses_of(client) == 0
        again = await register(services, key="another")
        assert again.id != user.id


class Overtaken:
    """A client whose n-th command waits until something else is done."""

    def __init__(self, client: Client, *, at: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._left = at
        self._meanwhile = meanwhile

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            await self._meanwhile()
        return await self._client.execute_command(*args, **options)


async def test_a_try_that_is_overtaken_by_another_and_by_a_deletion_leaves_no_second_account() -> None:
    clock = FakeClock()
    async with cheap_hasher() as hasher:
        sent = await commands_of_a_registration(hasher, clock)
        for at in range(1, sent + 3):
            async with a_server() as client:
                other = services_on(client, hasher, clock)
                first: list[User] = []

                async def register_and_leave(other: Services = other, first: list[User] = first) -> None:
                    with contextlib.suppress(AddressUndecided):  # where the slow one has claimed and not yet saved
                        first.append(await register(other))
                        token = (await other.authentication.log_in(email="ada@example.com", password=GOOD_PASSWORD)).token
                        await other.profiles.delete(token.reveal())

                user = await register(services_on(Overtaken(client, at=at, meanwhile=register_and_leave), hasher, clock))
                assert first in ([], [user]), f"command {at}"
                assert await addresses_of(client) == (0 if first else 1), f"command {at}"
                await age_claims(client)
                assert await broken_invariants(client) == [], f"command {at}"


async def test_nothing_of_what_was_asked_can_be_read_in_the_store() -> None:
    async with cheap_hasher() as hasher, a_server() as client:
        await register(services_on(client, hasher, FakeClock()))
        content = [await client.get(key) async for key in client.scan_iter(match="pg:request:*")]
        assert len(content) == 1
        for secret in (KEY, GOOD_PASSWORD, "ada@example.com", "Ada"):
            assert secret not in str(content[0])


async def test_of_many_with_one_key_on_two_processes_one_makes_the_account_and_all_get_its_user() -> None:
    async with cheap_hasher() as hasher, a_server() as client:
        both = [services_on(client, hasher, FakeClock()) for _ in range(2)]
        users = await asyncio.gather(*(register(both[number % 2]) for number in range(16)))
        assert len(set(users)) == 1
        assert await addresses_of(client) == 1
