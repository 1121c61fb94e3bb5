"""An adapter of one's own: accounts in SQLite, in one file. `test_sqlite_accounts.py` beside it proves it.

    python examples/sqlite_accounts.py accounts.db

serves the HTTP API on it, at http://127.0.0.1:8080. Needs ``pickguard[server]``, and nothing for SQLite: Python brings it.

Each account is a row, and so is each of its sessions: an authenticated read takes one session and not all of them. The rules
that make it right are few:

- What one method does is one transaction, done by one function in one thread, which nothing of this process can come between.
  `BEGIN IMMEDIATE` keeps other processes' writes out from the first read on.
- A version counts an account's writes, and a write names the version it was decided on.
- The address is UNIQUE in the form in which addresses are compared, so the database decides who has it.
- The write-ahead log and `synchronous = FULL` have a write on the disk before it is acknowledged.
- An account that is to go at a time is left out from that moment on, by every query, and erased by the next write of anybody.
- The ids of the last operations are kept with the account. Where a commit failed, they tell whether it happened.
"""

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from pickguard import AddressTaken, EmailAddress, OutcomeUnknown, PersonName, StoreUnavailable, User, UserId
from pickguard.domain.model.accounts import Account, register
from pickguard.domain.model.errors import Conflict, InvalidCursor
from pickguard.domain.model.portable import (
    dump_account,
    dump_session,
    load_account,
    load_activity,
    load_credential,
    load_session,
    load_user,
)
from pickguard.domain.model.sessions import Session, SessionDigest
from pickguard.ports.accounts import REMEMBERED_OPERATIONS, Holder, Snapshot
from pickguard.ports.directory import DirectoryEntry, DirectoryPage

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS accounts (
    user_id    TEXT PRIMARY KEY,
    ends       TEXT,
    address    TEXT NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    operations TEXT NOT NULL,
    user       TEXT NOT NULL,
    credential TEXT NOT NULL,
    activity   TEXT NOT NULL,
    rest       TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    digest  TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    session TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_of_account ON sessions (user_id);
CREATE INDEX IF NOT EXISTS ends_of_accounts ON accounts (ends) WHERE ends IS NOT NULL;
"""

STAYS: Final = "(ends IS NULL OR ends > ?)"
"""Of the accounts that are not gone at a time."""

BUSY_SECONDS: Final = 5.0
"""How long a write waits for those of other processes before it is given up."""

Result = TypeVar("Result")


class SqliteAccounts:
    """An `AccountRepository` and an `AccountDirectory` in a file of SQLite, which any processes of one machine may share.

    `open_accounts` makes one. It is to be used on one event loop.
    """

    def __init__(self, database: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._thread = thread

    async def get(self, user_id: UserId) -> Snapshot | None:
        """See `AccountRepository.get`."""
        return await self._read(lambda db: _snapshot(db, "user_id", str(user_id)))

    async def find(self, email: EmailAddress) -> Snapshot | None:
        """See `AccountRepository.find`."""
        return await self._read(lambda db: _snapshot(db, "address", email.key))

    async def find_holder(self, email: EmailAddress) -> Holder | None:
        """See `AccountRepository.find_holder`. For an address that nobody has, nobody's account is decoded, to take as long."""
        query = f"SELECT user, credential, activity FROM accounts WHERE address = ? AND {STAYS}"
        row = await self._read(lambda db: db.execute(query, [email.key, _now()]).fetchone())
        user, credential, activity = row or _OF_NOBODY
        holder = Holder(
            user=load_user(json.loads(user)),
            credential=load_credential(json.loads(credential)),
            read_activity=lambda: load_activity(json.loads(activity)),
        )
        return holder if row else None

    async def read_session(self, user_id: UserId, digest: SessionDigest) -> tuple[User, Session] | None:
        """See `AccountRepository.read_session`."""
        query = f"SELECT user, session FROM sessions JOIN accounts USING (user_id) WHERE digest = ? AND user_id = ? AND {STAYS}"
        row = await self._read(lambda db: db.execute(query, [digest.hex(), str(user_id), _now()]).fetchone())
        return None if row is None else (load_user(json.loads(row[0])), load_session(json.loads(row[1])))

    async def add(self, account: Account, *, operation: bytes) -> None:
        """See `AccountRepository.add`."""

        def write(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM accounts WHERE user_id = ?", [str(account.user.id)]).fetchone():
                _confirm_free(db, account)
                raise Conflict
            columns = _columns(account)
            columns |= {"user_id": str(account.user.id), "version": 1, "operations": json.dumps([operation.hex()])}
            statement = f"INSERT INTO accounts ({', '.join(columns)}) VALUES (:{', :'.join(columns)})"
            _execute(db, statement, columns, account.user.id)
            _write_sessions(db, (), account.sessions, account.user.id)

        await self._write(write, account.user.id, operation)

    async def save(self, before: Snapshot, after: Account, *, operation: bytes) -> None:
        """See `AccountRepository.save`."""

        def write(db: sqlite3.Connection) -> None:
            operations = [operation.hex(), *_confirmed(db, before)][:REMEMBERED_OPERATIONS]
            columns = _columns(after) | {"version": before.version + 1, "operations": json.dumps(operations)}
            assignments = ", ".join(f"{name} = :{name}" for name in columns)
            statement = f"UPDATE accounts SET {assignments} WHERE user_id = :id"
            _execute(db, statement, {**columns, "id": str(after.user.id)}, after.user.id)
            _write_sessions(db, before.account.sessions, after.sessions, after.user.id)

        await self._write(write, after.user.id, operation)

    async def remove(self, before: Snapshot, *, operation: bytes) -> None:
        """See `AccountRepository.remove`."""

        def write(db: sqlite3.Connection) -> None:
            _confirmed(db, before)
            db.execute("DELETE FROM accounts WHERE user_id = ?", [str(before.account.user.id)])

        await self._write(write, before.account.user.id, operation, removes=True)

    async def confirm(self, snapshot: Snapshot) -> None:
        """See `AccountRepository.confirm`. What can be read was committed, and what was committed is on the disk."""
        await self._read(lambda db: _confirmed(db, snapshot))

    async def page(self, *, after: str | None, limit: int, wanted: Callable[[User], bool] | None = None) -> DirectoryPage:
        """See `AccountDirectory.page`. In the order of the ids; a cursor is the last id of the page before."""
        try:
            last = "" if after is None else str(UUID(after))
        except ValueError:
            raise InvalidCursor from None

        def read(db: sqlite3.Connection) -> DirectoryPage:
            with _one_moment(db):
                query = f"SELECT user_id, user FROM accounts WHERE user_id > ? AND {STAYS} ORDER BY user_id LIMIT ?"
                found = db.execute(query, [last, _now(), limit + 1]).fetchall()
                users = [load_user(json.loads(user)) for _, user in found[:limit]]
                shown = [user for user in users if wanted is None or wanted(user)]
                entries = tuple(DirectoryEntry(user=user, sessions=_sessions(db, str(user.id))) for user in shown)
            return DirectoryPage(entries=entries, next=found[limit - 1][0] if len(found) > limit else None)

        return await self._read(read)

    async def check_writable(self) -> None:
        """See `AccountRepository.check_writable`: writes what is there already, and takes it back."""

        def try_to_write(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                (schema_version,) = db.execute("PRAGMA user_version").fetchone()
                db.execute(f"PRAGMA user_version = {schema_version}")
            finally:
                db.execute("ROLLBACK")

        await self._read(try_to_write)

    async def _read(self, read: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do something in the thread that has the database."""

        def work() -> Result:
            with _unavailable():
                return read(self._database)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _write(
        self, write: Callable[[sqlite3.Connection], None], user_id: UserId, operation: bytes, *, removes: bool = False
    ) -> None:
        """Do something as one transaction."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.execute(f"DELETE FROM accounts WHERE NOT {STAYS}", [_now()])
                write(db)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            try:
                db.execute("COMMIT")
            except sqlite3.Error as error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if _happened(db, user_id, operation, removes=removes):
                    return
                if error.sqlite_errorname.startswith("SQLITE_IOERR"):  # what is in the log may yet come back after a crash
                    raise OutcomeUnknown("the disk failed while the database wrote") from error
                raise

        await self._read(work)


@asynccontextmanager
async def open_accounts(path: Path) -> AsyncGenerator[SqliteAccounts]:
    """Open the file, and make it if need be. Raises `StoreUnavailable`."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="sqlite") as thread:
        database = await loop.run_in_executor(thread, _connect, path)
        try:
            yield SqliteAccounts(database, thread)
        finally:
            await loop.run_in_executor(thread, database.close)


def _connect(path: Path) -> sqlite3.Connection:
    with _unavailable():
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)  # transactions begin where this file says so
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.executescript(SCHEMA)
        except BaseException:
            db.close()
            raise
        return db


@contextmanager
def _unavailable() -> Generator[None]:
    """Turn the database's errors into the port's. Its messages name tables and columns, and no values."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"SQLite: {error}") from error


def _written(moment: datetime) -> str:
    """Write a time so that times sort as texts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _now() -> str:
    return _written(datetime.now(UTC))


def _columns(account: Account) -> dict[str, Any]:
    """Return what the row of an account holds beside its version and its operations: all but the sessions."""
    rest = dump_account(account)
    del rest["sessions"]
    parts = {name: json.dumps(rest.pop(name)) for name in ("user", "credential", "activity")}
    ends = account.user.deletes_at
    return {
        "address": account.user.email.key,
        "ends": None if ends is None else _written(ends),
        **parts,
        "rest": json.dumps(rest),
    }


@contextmanager
def _one_moment(db: sqlite3.Connection) -> Generator[None]:
    """Have all that is read be of one moment, whatever other processes write."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("END")


def _snapshot(db: sqlite3.Connection, column: str, value: str) -> Snapshot | None:
    with _one_moment(db):
        query = f"SELECT user_id, version, user, credential, activity, rest FROM accounts WHERE {column} = ? AND {STAYS}"
        row = db.execute(query, [value, _now()]).fetchone()
        if row is None:
            return None
        user_id, version, user, credential, activity, rest = row
        sessions = db.execute("SELECT session FROM sessions WHERE user_id = ?", [user_id]).fetchall()
    dumped = {
        **json.loads(rest),
        "user": json.loads(user),
        "credential": json.loads(credential),
        "activity": json.loads(activity),
        "sessions": [json.loads(session) for (session,) in sessions],
    }
    return Snapshot(account=load_account(dumped), version=version)


def _sessions(db: sqlite3.Connection, user_id: str) -> tuple[Session, ...]:
    rows = db.execute("SELECT session FROM sessions WHERE user_id = ?", [user_id])
    return tuple(load_session(json.loads(session)) for (session,) in rows)


def _confirm_free(db: sqlite3.Connection, account: Account) -> None:
    """Raise `AddressTaken` where another account has the address."""
    query = "SELECT 1 FROM accounts WHERE address = ? AND user_id != ?"
    if db.execute(query, [account.user.email.key, str(account.user.id)]).fetchone():
        raise AddressTaken


def _confirmed(db: sqlite3.Connection, before: Snapshot) -> list[str]:
    """Return the last operations on an account that is as it was read. Raises `Conflict`."""
    query = f"SELECT version, operations FROM accounts WHERE user_id = ? AND {STAYS}"
    row = db.execute(query, [str(before.account.user.id), _now()]).fetchone()
    if row is None or row[0] != before.version:
        raise Conflict
    operations: list[str] = json.loads(row[1])
    return operations


def _execute(db: sqlite3.Connection, statement: str, columns: dict[str, Any], user_id: UserId) -> None:
    """Write the row of an account. Raises `AddressTaken` where another one has its address, `Conflict` where it is there."""
    try:
        db.execute(statement, columns)
    except sqlite3.IntegrityError:
        holder = db.execute("SELECT user_id FROM accounts WHERE address = ?", [columns["address"]]).fetchone()
        raise (Conflict if holder is None or holder[0] == str(user_id) else AddressTaken) from None


def _write_sessions(db: sqlite3.Connection, before: tuple[Session, ...], after: tuple[Session, ...], user_id: UserId) -> None:
    left = {session.digest for session in after}
    known = set(before)
    ended = [(session.digest.hex(),) for session in before if session.digest not in left]
    changed = [each for each in after if each not in known]
    db.executemany("DELETE FROM sessions WHERE digest = ?", ended)
    rows = [(each.digest.hex(), str(user_id), json.dumps(dump_session(each))) for each in changed]
    db.executemany("INSERT OR REPLACE INTO sessions (digest, user_id, session) VALUES (?, ?, ?)", rows)


def _happened(db: sqlite3.Connection, user_id: UserId, operation: bytes, *, removes: bool) -> bool:
    """Tell whether a write whose commit failed is there all the same."""
    row = db.execute("SELECT operations FROM accounts WHERE user_id = ?", [str(user_id)]).fetchone()
    return row is None if removes else row is not None and operation.hex() in json.loads(row[0])


def _dumped_nobody() -> tuple[str, str, str]:
    nobody = register(
        user_id=UserId(UUID(int=0)),
        name=PersonName.parse("Nobody"),
        email=EmailAddress.parse("nobody@example.com"),
        password_hash=f"$argon2id$v=19$m=19456,t=2,p=1${'A' * 22}${'A' * 43}",
        now=datetime(1970, 1, 1, tzinfo=UTC),
    )
    columns = _columns(nobody.account)
    return columns["user"], columns["credential"], columns["activity"]


_OF_NOBODY: Final = _dumped_nobody()
"""What is decoded in the place of an account that is not there."""


async def serve(path: Path, port: int) -> None:
    """Serve the HTTP API on a file, at a port of this machine, until the program is interrupted."""
    from aiohttp import web

    from pickguard import Argon2Hasher, Services, Settings, build_services
    from pickguard.entrypoints.http.app import create_app

    @asynccontextmanager
    async def services(_: Settings) -> AsyncGenerator[Services]:
        async with open_accounts(path) as accounts, Argon2Hasher() as hasher:
            yield build_services(accounts=accounts, hasher=hasher)

    runner = web.AppRunner(create_app(Settings(store="memory:"), services=services))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 8080))
