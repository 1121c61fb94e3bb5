"""The adapter of `sqlite_accounts.py`, proved: the contract of every repository, and any sequence of use cases on it."""

import sqlite3
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import settings

from examples.sqlite_accounts import SqliteAccounts, open_accounts
from pickguard import OutcomeUnknown, StoreUnavailable
from pickguard.ports.accounts import AccountRepository
from pickguard.testing.accounts import an_account, operation, renamed
from pickguard.testing.contracts import AccountDirectoryContract, AccountRepositoryContract
from pickguard.testing.contracts.account_repository import stored
from pickguard.testing.machine import AccountServiceMachine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.db"


class TestSqliteAccounts(AccountRepositoryContract):
    @pytest_asyncio.fixture
    async def accounts(self, path: Path) -> AsyncGenerator[SqliteAccounts]:
        async with open_accounts(path) as accounts:
            yield accounts

    @pytest_asyncio.fixture
    async def another(self, path: Path, accounts: SqliteAccounts) -> AsyncGenerator[SqliteAccounts]:
        async with open_accounts(path) as another:
            yield another


class TestSqliteDirectory(AccountDirectoryContract):
    @pytest_asyncio.fixture
    async def accounts(self, path: Path) -> AsyncGenerator[SqliteAccounts]:
        async with open_accounts(path) as accounts:
            yield accounts

    @pytest.fixture
    def directory(self, accounts: SqliteAccounts) -> SqliteAccounts:
        return accounts


class FailingConnection(sqlite3.Connection):
    """A database whose next commit fails: as it says, and before or after it was made."""

    failure: str | None = None
    is_made = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql != "COMMIT" or self.failure is None:
            return super().execute(sql, parameters)
        if self.is_made:
            super().execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname, self.failure = self.failure, None
        raise error


class TestFailedCommits:
    @pytest.fixture
    def database(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[FailingConnection]:
        opened: list[FailingConnection] = []

        def connect(path: Path, **options: Any) -> FailingConnection:
            opened.append(FailingConnection(path, check_same_thread=False, **options))
            return opened[-1]

        monkeypatch.setattr(sqlite3, "connect", connect)
        return opened

    @pytest_asyncio.fixture
    async def accounts(self, tmp_path: Path, database: list[FailingConnection]) -> AsyncGenerator[SqliteAccounts]:
        async with open_accounts(tmp_path / "accounts.db") as accounts:
            yield accounts

    @pytest.mark.asyncio
    async def test_a_write_that_happened_although_its_commit_failed_is_acknowledged(
        self, accounts: SqliteAccounts, database: list[FailingConnection]
    ) -> None:
        database[0].is_made, account = True, an_account()
        database[0].failure = "SQLITE_IOERR_FSYNC"
        await accounts.add(account, operation=operation())
        before = await stored(accounts, account)
        database[0].failure = "SQLITE_IOERR_FSYNC"
        await accounts.save(before, renamed(account, "Countess"), operation=operation())
        database[0].failure = "SQLITE_IOERR_FSYNC"
        await accounts.remove(await stored(accounts, account), operation=operation())
        assert await accounts.get(account.user.id) is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("failure", "raised"), [("SQLITE_IOERR_FSYNC", OutcomeUnknown), ("SQLITE_FULL", StoreUnavailable)])
    async def test_a_write_that_did_not_happen_is_told_and_the_next_one_succeeds(
        self, accounts: SqliteAccounts, database: list[FailingConnection], failure: str, raised: type[Exception]
    ) -> None:
        account = an_account()
        database[0].failure = failure
        with pytest.raises(raised):
            await accounts.add(account, operation=operation())
        assert await accounts.get(account.user.id) is None
        await accounts.add(account, operation=operation())
        before = await stored(accounts, account)
        for write in (
            accounts.save(before, renamed(account, "Countess"), operation=operation()),
            accounts.remove(before, operation=operation()),
        ):
            database[0].failure = failure
            with pytest.raises(raised):
                await write
        assert await stored(accounts, account) == before

    @pytest.mark.asyncio
    async def test_what_cannot_be_written_is_unavailable_and_can_be_read(
        self, accounts: SqliteAccounts, tmp_path: Path
    ) -> None:
        account = an_account()
        await accounts.add(account, operation=operation())
        async with open_accounts(tmp_path / "accounts.db") as refused:
            await refused._read(lambda db: db.execute("PRAGMA query_only = ON"))  # as a file system would
            assert await refused.find(account.user.email) == await stored(accounts, account)
            for attempt in (refused.check_writable(), refused.add(an_account("bob@example.com"), operation=operation())):
                with pytest.raises(StoreUnavailable, match="SQLite: "):
                    await attempt
        await accounts.check_writable()

    @pytest.mark.asyncio
    async def test_what_is_no_database_is_unavailable(self, tmp_path: Path) -> None:
        path = tmp_path / "accounts.db"
        path.write_text("no database, but long enough that somebody might take it for one " * 10)
        with pytest.raises(StoreUnavailable, match="SQLite: "):
            async with open_accounts(path):
                pass


class SqliteMachine(AccountServiceMachine):
    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[AccountRepository]:
        with tempfile.TemporaryDirectory() as directory:
            async with open_accounts(Path(directory, "accounts.db")) as accounts:
                yield accounts


TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
