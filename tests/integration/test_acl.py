"""The users that docs/operations.md describes: all that the service does is allowed to them, and nothing else is."""

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs
import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError, ResponseError

from pickguard import StoreUnavailable
from pickguard.adapters.engine import Engine
from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.clients import StoreClient
from pickguard.adapters.redis.connection import open_client
from pickguard.adapters.redis.directory import RedisDirectory
from pickguard.adapters.redis.durability import examine
from pickguard.adapters.redis.encoding import account_key
from pickguard.adapters.redis.inspection import inspect
from pickguard.adapters.redis.limits import RedisRateLimiter
from pickguard.adapters.redis.location import Location
from pickguard.adapters.redis.receipts import RedisReceipts
from pickguard.domain.model.errors import Unavailable
from pickguard.ports.checkup import Inspection, Verdict
from pickguard.testing.contracts.account_repository import AccountRepositoryContract, added, stored
from pickguard.testing.contracts.rate_limiter import Limiters
from pickguard.testing.contracts.receipts import ReceiptsContract
from tests.contracts.limits import LimitsContract
from tests.support.accounts import an_account, at_address, ending, operation, renamed
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server, mends_torn_logs
from tests.support.topologies import Cluster, Replicated, Sentinels, ask

GUIDE: Final = (Path(__file__).parents[2] / "docs/operations.md").read_text()
PASSWORD: Final = "a password/with @ and :"


def described(why: str = "") -> list[str]:
    """Return the rules of the guide's line for a reason; of the service's own line where none is given."""
    (line,) = (line for line, reason in _lines() if reason.startswith(why) and bool(reason) == bool(why))
    return [f">{PASSWORD}" if rule == ">PASSWORD" else rule for rule in line.split()]


def _lines() -> Iterator[tuple[str, str]]:
    for rules, _, reason in re.findall(r"^ACL SETUSER pickguard ([^#\n]+?)( +# (.+))?$", GUIDE, re.MULTILINE):
        yield rules, reason


def for_sentinels() -> list[str]:
    found = re.search(r"`ACL SETUSER pickguard (reset [^`]+sentinel[^`]+)`", GUIDE)
    assert found is not None
    return [f">{PASSWORD}" if rule == ">PASSWORD" else rule for rule in found[1].split()]


SERVICE: Final = described()
COMMANDS: Final = [rule.removeprefix("+") for rule in SERVICE if rule.startswith("+")]


def test_users_in_configuration_files_may_do_no_less_and_no_more() -> None:
    lines = re.findall(r"^user pickguard (.+)$", GUIDE, re.MULTILINE)
    more = {rule for rules, reason in _lines() if reason for rule in rules.split()}
    for line in lines:
        rules = {rule for rule in line.split() if not rule.startswith((">", "#"))}
        least, most = (for_sentinels(), ()) if "sentinel" in line else (SERVICE, more)
        assert set(least) - {"reset", f">{PASSWORD}"} <= rules <= {*least, *most}
    assert lines


async def set_user(client: redis.asyncio.Redis, *rules: str) -> None:
    await client.execute_command("ACL", "SETUSER", "pickguard", *rules)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def opened(url: str, *, wait_replicas: int = 0) -> AsyncGenerator[StoreClient]:
    second = timedelta(seconds=1)
    location = attrs.evolve(
        Location.parse(url),
        username="pickguard",
        password=PASSWORD,
        sentinel_username="pickguard",
        sentinel_password=PASSWORD,
    )
    async with open_client(
        location, connections=16, connect_timeout=5 * second, command_timeout=5 * second, wait_replicas=wait_replicas
    ) as client:
        yield client


@pytest.fixture
async def administrator(engine: Engine) -> AsyncGenerator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(unix_socket_path=str(engine.socket_path)) as client:
        await set_user(client, *SERVICE)
        yield client
        await client.execute_command("ACL", "DELUSER", "pickguard")  # type: ignore[no-untyped-call]


@pytest.fixture
async def client(engine: Engine, administrator: redis.asyncio.Redis) -> AsyncGenerator[StoreClient]:
    assert await administrator.ping()
    async with opened(f"unix://{quote(str(engine.socket_path))}") as client:
        yield client


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestTheServicesUser(AccountRepositoryContract):
    @pytest.fixture
    async def accounts(self, client: StoreClient) -> RedisAccounts:
        return RedisAccounts(client)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestTheServicesUserWithReceipts(ReceiptsContract):
    @pytest.fixture
    async def receipts(self, client: StoreClient) -> RedisReceipts:
        return RedisReceipts(client)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
class TestTheServicesUserWithLimits(LimitsContract):
    @pytest.fixture
    async def limiters(self, client: StoreClient) -> Limiters:
        return lambda rules: RedisRateLimiter(client, rules=rules)


async def exercise(accounts: RedisAccounts) -> None:
    """Do everything that the service does with accounts, losing nothing."""
    account = an_account(sessions=2)
    await accounts.check_writable()
    before = await added(accounts, account)
    await accounts.save(before, attrs.evolve(renamed(account, "Countess"), sessions=()), operation=operation())
    before = await stored(accounts, account)
    await accounts.save(before, at_address(before.account, "lovelace@example.com"), operation=operation())
    before = await stored(accounts, account)
    await accounts.save(before, ending(before.account, in_=timedelta(days=1)), operation=operation())
    before = await stored(accounts, account)
    await accounts.save(before, ending(before.account, in_=None), operation=operation())
    before = await stored(accounts, account)
    assert await accounts.find(before.account.user.email) == before
    assert await accounts.read_session(account.user.id, account.sessions[0].digest) is None
    await accounts.remove(before, operation=operation())


class LeftoverError(Exception):
    """There is something left of accounts that are removed."""


async def exercise_to_the_end(client: StoreClient, administrator: redis.asyncio.Redis) -> None:
    await exercise(RedisAccounts(client))
    if await administrator.keys("pg:email:*"):  # a claim that cannot be released is left without a word
        raise LeftoverError


@pytest.mark.requirement(66)
@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
async def test_the_user_may_do_nothing_else(client: StoreClient, administrator: redis.asyncio.Redis) -> None:
    await administrator.set("other:key", "theirs")
    await administrator.set("pgx", "theirs")
    refused: list[tuple[Any, ...]] = [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "requirepass"),
        ("CONFIG", "SET", "appendonly", "no"),
        ("KEYS", "pg:*"),
        ("SCAN", "0"),
        ("GET", "other:key"),
        ("SET", "other:key", "ours"),
        ("DEL", "pgx"),
        ("HGETALL", "other"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "other:key"),
        ("EVAL", "return redis.call('FLUSHALL')", 0),
        ("EVAL", "return redis.call('GET', 'other:key')", 0),
        ("SCRIPT", "FLUSH"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("SUBSCRIBE", "news"),
        ("PUBLISH", "news", "none"),
        ("RENAME", "pg:a", "pg:b"),
        ("EXPIRE", "pg:a", "1"),
        ("PEXPIRE", "pg:a", "1"),
        ("PERSIST", "other:key"),
    ]
    for command in refused:
        with pytest.raises(ResponseError) as error:
            await client.execute_command(*command)
        assert isinstance(error.value, NoPermissionError) or re.search(r"permission|user executing", str(error.value)), command
    assert await administrator.get("other:key") == b"theirs"


@pytest.mark.requirement(66)
@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
async def test_every_command_of_the_users_line_is_needed(client: StoreClient, administrator: redis.asyncio.Redis) -> None:
    for command in COMMANDS:
        await administrator.script_flush()
        await set_user(administrator, f"-{command}")
        if command == "info":
            assert Verdict.UNKNOWN in {each.verdict for each in await examine(client) if each.id == "info"}
        elif command == "ping":
            with pytest.raises(NoPermissionError):
                await client.reach()
        else:
            with pytest.raises((Unavailable, LeftoverError)):
                await exercise_to_the_end(client, administrator)
        await administrator.flushall()
        await set_user(administrator, f"+{command}")
    await exercise_to_the_end(client, administrator)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
@pytest.mark.parametrize(
    ("command", "now", "wanted"), [("pexpireat", None, timedelta(days=1)), ("persist", timedelta(days=1), None)]
)
async def test_a_user_who_may_not_set_an_end_changes_nothing(
    client: StoreClient,
    administrator: redis.asyncio.Redis,
    command: str,
    now: timedelta | None,
    wanted: timedelta | None,
) -> None:
    # As a user has it who was made for a version that knew no ends.
    accounts, account = RedisAccounts(client), an_account(sessions=2)
    await accounts.save(await added(accounts, account), ending(account, in_=now), operation=operation())
    before = await stored(accounts, account)
    ttl = await administrator.pttl(account_key("pg", account.user.id))
    await set_user(administrator, f"-{command}")
    changed = attrs.evolve(ending(before.account, in_=wanted), sessions=())
    with pytest.raises(StoreUnavailable):
        await accounts.save(before, changed, operation=operation())
    assert await stored(accounts, account) == before
    assert (await administrator.pttl(account_key("pg", account.user.id)) == -1) == (ttl == -1)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
async def test_the_doctor_sees_more_with_its_line(client: StoreClient, administrator: redis.asyncio.Redis) -> None:
    unseen = {each.id for each in await examine(client) if each.verdict is Verdict.UNKNOWN}
    needed = {"appendfsync", "no-appendfsync-on-rewrite"}
    assert unseen == (needed if await mends_torn_logs(administrator) else {*needed, "aof-load-truncated"})
    with pytest.raises(StoreUnavailable, match="ACL SETUSER"):
        await inspect(client, prefix="pg")
    await set_user(administrator, *described("--strict-durability"))
    assert {each.verdict for each in await examine(client)} == {Verdict.OK}
    await set_user(administrator, *SERVICE)
    await set_user(administrator, *described("pickguard doctor"))
    assert {each.verdict for each in await examine(client)} == {Verdict.OK}
    await administrator.set("pg:request:x", "no end")
    await administrator.set("pg:strange", "unknown")
    inspection = await inspect(client, prefix="pg", repair=True)
    assert sum(inspection.found.values()) == 2
    await administrator.delete("pg:request:x", "pg:strange")
    await added(RedisAccounts(client), an_account())
    await administrator.delete(*await administrator.keys("pg:email:*"))
    assert sum((await inspect(client, prefix="pg", repair=True)).repaired.values()) == 1
    assert await inspect(client, prefix="pg") == Inspection(accounts=1, claims=1)


@pytest.mark.parametrize("engine", PROGRAMS, indirect=True)
async def test_to_list_accounts_needs_its_line(client: StoreClient, administrator: redis.asyncio.Redis) -> None:
    account = (await added(RedisAccounts(client), an_account())).account
    with pytest.raises(StoreUnavailable, match=r"ACL SETUSER … \+scan"):
        await RedisDirectory(client).page(after=None, limit=10)
    await set_user(administrator, *described("to list accounts"))
    assert [each.user for each in (await RedisDirectory(client).page(after=None, limit=10)).entries] == [account.user]


@pytest.mark.parametrize("program", PROGRAMS)
async def test_another_database_needs_its_line(tmp_path: Path, program: str) -> None:
    async with Server(tmp_path / "server", program=PROGRAMS[program]) as server, server.client() as administrator:
        await set_user(administrator, *SERVICE)
        async with opened(f"{server.url}/3") as client:
            with pytest.raises(StoreUnavailable):
                await exercise(RedisAccounts(client))
            await set_user(administrator, *described("a database"))
            await exercise(RedisAccounts(client))


@pytest.mark.parametrize("program", PROGRAMS)
async def test_waiting_for_replicas_needs_its_line(tmp_path: Path, program: str) -> None:
    async with Replicated(tmp_path, program=PROGRAMS[program]) as store, store.master.client() as administrator:
        await set_user(administrator, *SERVICE)
        async with opened(store.url, wait_replicas=1) as client:
            with pytest.raises(Unavailable):
                await exercise(RedisAccounts(client))
            await administrator.flushall()
            await set_user(administrator, *described("--wait-replicas"))
            await exercise(RedisAccounts(client))


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_cluster_needs_its_line(tmp_path: Path, program: str) -> None:
    async with Cluster(tmp_path, program=PROGRAMS[program]) as store:
        for server in store.servers:
            await ask(server, "ACL", "SETUSER", "pickguard", *SERVICE)
        async with opened(store.url) as client:
            with pytest.raises(StoreUnavailable):
                await exercise(RedisAccounts(client))
        for server in store.servers:
            await ask(server, "ACL", "SETUSER", "pickguard", *described("a Cluster"))
        async with opened(store.url) as client:
            for _ in range(20):  # in all slots
                await exercise(RedisAccounts(client))
            assert "cluster" not in {each.id for each in await examine(client) if each.verdict is Verdict.UNKNOWN}


async def test_asking_is_needed_while_a_slot_moves(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as store:
        for server in store.servers:
            await ask(server, "ACL", "SETUSER", "pickguard", *SERVICE, *described("a Cluster"), "-asking")
        async with opened(store.url) as client:
            accounts = RedisAccounts(client)
            account = an_account()
            await added(accounts, account)
            key = f"pg:{{{account.user.id}}}"
            source = await store.owner(key)
            target = next(each for each in await store.masters() if each is not source)
            slot = await ask(source, "CLUSTER", "KEYSLOT", key)
            await store.migrating(slot, source, target)
            await store.move_keys(slot, source, target)
            with pytest.raises(StoreUnavailable):
                await accounts.get(account.user.id)
            for server in store.servers:
                await ask(server, "ACL", "SETUSER", "pickguard", *described("a Cluster"))
            assert await accounts.get(account.user.id) is not None


@pytest.mark.parametrize("program", PROGRAMS)
async def test_behind_sentinels_the_users_are_enough(tmp_path: Path, program: str) -> None:
    async with Sentinels(tmp_path, program=PROGRAMS[program]) as store:
        for server in store.servers:
            await ask(server, "ACL", "SETUSER", "pickguard", *SERVICE)
        for sentinel in store.sentinels:
            await ask(sentinel, "ACL", "SETUSER", "pickguard", *for_sentinels())
        async with opened(store.url) as client:
            await exercise(RedisAccounts(client))
            assert [each.verdict for each in await examine(client) if each.id == "sentinel"] == [Verdict.OK] * 3
            for sentinel in store.sentinels:
                fewer = [rule for rule in for_sentinels() if "ckquorum" not in rule]
                await ask(sentinel, "ACL", "SETUSER", "pickguard", *fewer)
            assert [each.verdict for each in await examine(client) if each.id == "sentinel"] == [Verdict.UNKNOWN] * 3
