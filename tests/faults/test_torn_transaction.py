"""A log that ends within a transaction, as a power cut may leave it: nothing that is acknowledged after it is lost.

A save that ends a session removes a field and sets others, so it lies in the log as MULTI, HDEL, HSET, EXEC. An engine that
drops only the command which is not whole goes on behind a MULTI without its EXEC. All that it appends it takes for a part of
that transaction when it starts again.
"""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import attrs
import pytest

from pickguard.adapters.redis.accounts import RedisAccounts
from pickguard.adapters.redis.connection import open_client
from pickguard.domain.model.accounts import Account
from pickguard.ports.accounts import AccountRepository
from pickguard.testing.contracts.account_repository import added, stored
from tests.support.accounts import an_account, operation, renamed
from tests.support.engines import PROGRAMS
from tests.support.redis_servers import Server, mends_torn_logs

pytestmark = pytest.mark.parametrize("engine", PROGRAMS)

COMMANDS: Final = (b"MULTI", b"HDEL", b"HSET", b"EXEC")

Place = Callable[[bytes], int]
"""Says where a log ends, within its last transaction."""


def within(command: bytes) -> Place:
    return lambda log: log.rindex(command + b"\r\n") + len(command) // 2


def before(command: bytes) -> Place:
    return lambda log: log.rindex(b"*", 0, log.rindex(command + b"\r\n"))


WITHIN_COMMANDS: Final = {f"within {command.decode()}": within(command) for command in COMMANDS}
BETWEEN_COMMANDS: Final = {f"before {command.decode()}": before(command) for command in COMMANDS[1:]}
PLACES: Final = WITHIN_COMMANDS | BETWEEN_COMMANDS
HALF_DONE: Final = (WITHIN_COMMANDS["within HSET"], WITHIN_COMMANDS["within EXEC"])
"""Where something is lost on every engine that does not mend it. Redis 6.2 writes each script as a transaction, whose EXEC then
ends the one before: there it is what the HDEL removes. Elsewhere it is what is acknowledged next."""


class Store:
    """A server and what was acknowledged on it, after the log was torn and before."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._acknowledged: list[Account] = []

    @asynccontextmanager
    async def accounts(self) -> AsyncGenerator[AccountRepository]:
        patience = timedelta(seconds=5)
        async with open_client(self._server.url, connections=1, connect_timeout=patience, command_timeout=patience) as client:
            yield RedisAccounts(client)

    async def tear(self, place: Place) -> None:
        """Let the log end within a save, which is not taken for acknowledged: it never reached the disk."""
        account = an_account("torn@example.com", sessions=2)
        async with self.accounts() as accounts:
            snapshot = await added(accounts, account)
            await accounts.save(snapshot, without_a_session(account), operation=operation())
        self._server.kill()
        self._acknowledged = [account]
        file = self._server.append_only_file
        log = file.read_bytes()
        transaction = log[before(b"MULTI")(log) :]
        assert [transaction.count(command + b"\r\n") for command in COMMANDS] == [1] * len(COMMANDS)
        os.truncate(file, place(log))

    async def add_and_rename(self) -> None:
        """Make changes that lie in the log as commands by themselves."""
        account = an_account("other@example.com", sessions=2)
        async with self.accounts() as accounts:
            await accounts.save(await added(accounts, account), renamed(account, "Countess"), operation=operation())
        self._acknowledged.append(renamed(account, "Countess"))

    async def end_a_session(self) -> None:
        """Make a change that lies in the log as a transaction."""
        account = self._acknowledged.pop()
        async with self.accounts() as accounts:
            await accounts.save(await stored(accounts, account), without_a_session(account), operation=operation())
        self._acknowledged.append(without_a_session(account))

    async def has_all(self) -> bool:
        """Tell whether everything is there as it was acknowledged."""
        async with self.accounts() as accounts:
            found = [await accounts.get(account.user.id) for account in self._acknowledged]
        return [each and in_order(each.account) for each in found] == list(map(in_order, self._acknowledged))


def in_order(account: Account) -> Account:
    """Return an account with its sessions in one order of many, which mean the same."""
    return attrs.evolve(account, sessions=tuple(sorted(account.sessions, key=lambda session: session.id)))


def without_a_session(account: Account) -> Account:
    return attrs.evolve(account, sessions=account.sessions[1:])


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_nothing_is_lost_where_the_log_was_cut_as_the_guide_says(engine: str, place: Place, tmp_path: Path) -> None:
    async with Server(tmp_path / "server", program=PROGRAMS[engine]) as server:
        store = Store(server)
        await store.tear(place)
        assert await server.start_after_power_cut()
        assert await store.has_all()
        await store.add_and_rename()
        await server.restart()
        assert await store.has_all()
        await store.end_a_session()
        await server.restart()
        assert await store.has_all()


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_an_engine_that_starts_on_such_a_log_loses_nothing_if_it_is_new_enough(
    engine: str, place: Place, tmp_path: Path
) -> None:
    """That the others do lose something, and since when none is lost, keeps the table of `durability` true."""
    async with Server(tmp_path / "server", {"aof-load-truncated": "yes"}, program=PROGRAMS[engine]) as server:
        store = Store(server)
        await store.tear(place)
        await server.start()
        assert await store.has_all()
        await store.add_and_rename()
        await server.restart()
        has_all = await store.has_all()
        async with server.client() as raw:
            mends = await mends_torn_logs(raw)
        if mends:
            assert has_all
        elif place in HALF_DONE:
            assert not has_all
