"""An import of a file on the in-memory store: what is refused, and that it goes on exactly where it was."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pickguard.adapters.foreign_hashes import ForeignPasswordHashes
from pickguard.adapters.memory import MemoryAccounts
from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.entrypoints.bootstrap import Services, build_services
from pickguard.entrypoints.commands import importing
from pickguard.entrypoints.commands.importing import Counts, Import, ImportFailure, State, examine_file, progress_of, report_of
from pickguard.testing.contracts.account_directory import listed
from tests.support.fakes import FakeClock, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.strategies import examples

HASH = "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ID = "016a8b5f-0000-7000-8000-00000000000{}"
STORE = "a store"


class Crash(BaseException):
    """The process ends here, whatever it was doing."""


class Crashing(MemoryAccounts):
    """A store whose user's process ends at its n-th write, before or after it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.stored_all_the_same = False

    async def add(self, account: Account, *, operation: bytes) -> None:
        if self.left == 0:
            if self.stored_all_the_same:
                await super().add(account, operation=operation)
            raise Crash
        if self.left is not None:
            self.left -= 1
        await super().add(account, operation=operation)


async def opened(accounts: MemoryAccounts) -> AsyncGenerator[Services]:
    async with cheap_hasher(foreign=ForeignPasswordHashes()) as hasher:
        yield build_services(
            accounts=accounts,
            hasher=hasher,
            clock=FakeClock(),
            events=RecordedEvents(),
            common_passwords=NoCommonPasswords(),
        )


@pytest.fixture
async def services() -> AsyncGenerator[Services]:
    async for each in opened(MemoryAccounts()):
        yield each


def user(number: int, **more: object) -> str:
    return json.dumps({"name": f"User {number}", "email": f"user{number}@example.com", "password_hash": HASH, **more})


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.ndjson"


async def run(path: Path, services: Services, *, batch: int = 4, store: str = STORE) -> State:
    with Import.opened(path, store=store, now=NOW) as running:
        await running.run(services.imports, advance=lambda _: None, batch=batch)
        return running.state


def report(path: Path) -> list[tuple[int, list[str]]]:
    if not report_of(path).exists():
        return []
    documents = [json.loads(line) for line in report_of(path).read_text().splitlines()]
    return [(each["line"], [error["code"] for error in each["errors"]]) for each in documents]


async def names(services: Services) -> dict[str, str]:
    return {entry.user.email.key: entry.user.name.value for entry in await listed(services.directory)}


async def test_every_line_is_imported_or_refused_for_reasons(path: Path, services: Services) -> None:
    written(
        path,
        user(1, email_verified=True, created_at="2019-05-06T07:08:09Z", id=ID.format(1)),
        user(2, disabled=True, deletes_at="2999-01-01T00:00:00Z"),
        "",
        user(3, email="no address", password_hash="none"),
        user(4, email="USER1@example.com"),
        user(5, email="user5@example.com", id=ID.format(1)),
        user(6, created_at="2999-01-01T00:00:00Z"),
        user(7, deletes_at=None),
        user(8, deletes_at="1999-01-01T00:00:00Z"),
        user(9, deletes_at="soon"),
    )
    state = await run(path, services)
    assert state.counts == Counts(imported=3, refused=7)
    assert (state.lines, state.is_done) == (10, True)
    assert report(path) == [
        (3, ["empty_line"]),
        (4, ["invalid_email", "invalid_password_hash"]),
        (5, ["email_taken"]),
        (6, ["id_taken"]),
        (7, ["invalid_created_at"]),
        (9, ["invalid_deletes_at"]),
        (10, ["invalid_deletes_at"]),
    ]
    found = {entry.user.email.key: entry.user for entry in await listed(services.directory)}
    assert set(found) == {"user1@example.com", "user2@example.com", "user7@example.com"}
    first, second, last = (found[f"user{number}@example.com"] for number in (1, 2, 7))
    assert (str(first.id), first.email_verified, first.created_at.year) == (ID.format(1), True, 2019)
    assert (second.disabled, second.created_at) == (True, NOW)
    assert second.deletes_at is not None
    assert second.deletes_at.year == 2999
    assert last.id.version == 7
    assert {each.stat().st_mode & 0o777 for each in (report_of(path), progress_of(path))} == {0o600}
    assert HASH not in report_of(path).read_text() + progress_of(path).read_text()


async def test_a_clock_that_was_set_back_since_refuses_no_line(path: Path, services: Services) -> None:
    written(path, user(1), user(2, created_at="2019-05-06T07:08:09Z"))
    with Import.opened(path, store=STORE, now=NOW + timedelta(hours=1)) as running:
        await running.run(services.imports, advance=lambda _: None)
    assert running.state.counts == Counts(imported=2)


async def test_a_link_is_no_way_to_have_the_report_written_elsewhere(path: Path, services: Services, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("untouched")
    written(path, user(1), "", "", user(2))

    def plant(_: State) -> None:
        if report_of(path).is_file():
            report_of(path).unlink()
            report_of(path).symlink_to(theirs)

    with Import.opened(path, store=STORE, now=NOW) as running:
        with pytest.raises(ImportFailure, match="cannot be written"):
            await running.run(services.imports, advance=plant, batch=1)
        with pytest.raises(ImportFailure, match="cannot be written"):
            await running.run(services.imports, advance=plant, batch=1)
    assert theirs.read_text() == "untouched"


async def test_where_nothing_is_refused_there_is_no_report(path: Path, services: Services) -> None:
    assert (await run(written(path, user(1)), services)).counts == Counts(imported=1)
    assert not report_of(path).exists()


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_of_two_lines_with_one_address_the_first_one_gets_it(path: Path, services: Services, batch: int) -> None:
    written(path, *(user(number, email=("Ada@example.com", "ada@EXAMPLE.com")[number % 2]) for number in range(20)))
    assert (await run(path, services, batch=batch)).counts == Counts(imported=1, refused=19)
    assert await names(services) == {"ada@example.com": "User 0"}
    assert [line for line, _ in report(path)] == list(range(2, 21))


class LateFirst(MemoryAccounts):
    """A store in which what is written first takes longest."""

    def __init__(self) -> None:
        super().__init__()
        self._pause = 10

    async def add(self, account: Account, *, operation: bytes) -> None:
        pause, self._pause = self._pause, 0
        for _ in range(pause):
            await asyncio.sleep(0)
        await super().add(account, operation=operation)


async def test_the_first_line_with_an_address_gets_it_however_long_that_takes(path: Path) -> None:
    written(path, user(1, email="ada@example.com"), user(2, email="ADA@example.com"))
    async for services in opened(LateFirst()):
        await run(path, services)
        assert await names(services) == {"ada@example.com": "User 1"}


async def test_an_import_that_is_done_does_nothing_more(path: Path, services: Services) -> None:
    written(path, user(1), "nonsense")
    first = await run(path, services)
    before = report_of(path).read_text()
    await services.administration.delete((await services.administration.find("user1@example.com")).id)
    assert await run(path, services) == first
    assert report_of(path).read_text() == before
    assert await names(services) == {}


async def test_an_empty_file_is_imported_at_once(path: Path, services: Services) -> None:
    assert (await run(written(path), services)).is_done


async def test_what_an_export_wrote_twice_is_there_once(path: Path, services: Services) -> None:
    written(path, user(1, id=ID.format(1)), user(1, id=ID.format(1)))
    assert (await run(path, services)).counts == Counts(imported=1, present=1)
    progress_of(path).unlink()
    assert (await run(path, services)).counts == Counts(present=2)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=14),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=4),
)
@example(made=[(0, False, False)], batch=1, crashes=[(0, True)])
@example(
    made=[(0, False, False), (1, True, False), (0, False, True), (2, False, False)], batch=4, crashes=[(2, True), (1, False)]
)
@examples(60)
def test_wherever_it_crashes_it_ends_as_if_it_had_not(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[int, bool, bool]],
    batch: int,
    crashes: list[tuple[int, bool]],
) -> None:
    lines = [
        "nonsense" if broken else user(number, name=f"Line {place}", **({"id": ID.format(number)} if with_id else {}))
        for place, (number, broken, with_id) in enumerate(made)
    ]

    async def play(directory: Path, crashes: list[tuple[int, bool]]) -> tuple[dict[str, str], object, int, int]:
        path = written(directory / "users.ndjson", *lines)
        accounts = Crashing()
        async for services in opened(accounts):
            for accounts.left, accounts.stored_all_the_same in crashes:
                try:
                    await run(path, services, batch=batch)
                except BaseExceptionGroup as group:
                    assert group.subgroup(Crash) is not None  # noqa: PT017
            accounts.left = None
            state = await run(path, services, batch=batch)
            assert state.is_done
            counts = state.counts
            return await names(services), report(path), counts.imported + counts.present, counts.refused
        raise AssertionError

    crashed = asyncio.run(play(tmp_path_factory.mktemp("crashed"), crashes))
    straight = asyncio.run(play(tmp_path_factory.mktemp("straight"), []))
    assert crashed == straight


async def test_what_was_written_after_the_last_note_is_cut_and_written_again(path: Path, services: Services) -> None:
    written(path, *["nonsense"] * 6)
    with Import.opened(path, store=STORE, now=NOW) as running:
        noted = running.state
    await run(path, services, batch=2)
    whole, progress = report_of(path).read_text(), json.loads(progress_of(path).read_text())
    half = attrs.evolve(noted, offset=18, lines=2, report_size=len(whole) // 3, counts=Counts(refused=2))
    progress_of(path).write_text(str(half))
    report_of(path).write_text(whole[: len(whole) // 2])
    await run(path, services, batch=2)
    assert report_of(path).read_text() == whole
    assert json.loads(progress_of(path).read_text()) == {**progress, "seed": half.seed.hex()}


async def test_a_note_of_something_else_is_not_gone_by(path: Path, services: Services) -> None:
    written(path, user(1))
    await run(path, services)
    with pytest.raises(ImportFailure, match="into a store; remove it to begin anew, into another"):
        await run(path, services, store="another")
    written(path, user(1), user(2))
    with pytest.raises(ImportFailure, match="was changed since"):
        await run(path, services)
    for garbage in ("", "{}", "[]", "7", '{"format": 2}', '{"format": 1, "counts": {}}', "\x00", "null"):
        progress_of(path).write_text(garbage)
        with pytest.raises(ImportFailure, match="no note of an import's progress"):
            await run(path, services)
    progress_of(path).write_bytes(b"\xff")
    with pytest.raises(ImportFailure, match="no note of an import's progress"):
        await run(path, services)
    assert set(await names(services)) == {"user1@example.com"}


async def test_a_file_is_imported_by_one_at_a_time(path: Path, services: Services) -> None:
    written(path, user(1))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ImportFailure, match="under way"):
            await run(path, services)
    await run(path, services)


@pytest.mark.parametrize(("kind", "why"), [("missing", "is not there"), ("directory", "read twice"), ("pipe", "read twice")])
async def test_what_is_no_file_is_refused(tmp_path: Path, services: Services, kind: str, why: str) -> None:
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ImportFailure, match=why):
        await run(path, services)


async def test_where_nothing_can_be_noted_nothing_is_imported(
    path: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    written(path, user(1))
    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(ImportFailure, match="No space left"):
        await run(path, services)
    assert await names(services) == {}


class Flaky(MemoryAccounts):
    """A store that is not available for the first so many writes."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self._failures = failures

    async def add(self, account: Account, *, operation: bytes) -> None:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("it is down", retry_after=timedelta(milliseconds=1))
        await super().add(account, operation=operation)


async def test_a_store_that_is_down_for_a_moment_is_waited_for(path: Path) -> None:
    written(path, *map(user, range(5)))
    async for services in opened(Flaky(20)):
        assert (await run(path, services)).counts == Counts(imported=5)


async def test_a_store_that_stays_down_ends_it_and_it_goes_on_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PATIENCE", 0.0)
    written(path, *map(user, range(9)))
    async for services in opened(Flaky(1)):
        with pytest.raises(ImportFailure, match="stopped after line 0: it is down; run it again to go on"):
            await run(path, services)
        assert (await run(path, services)).counts == Counts(imported=9)


async def test_to_examine_a_file_is_to_import_nothing(path: Path, services: Services) -> None:
    written(path, user(1), "nonsense", user(2, email="no"))
    state = await examine_file(path, services.imports, advance=lambda _: None)
    assert (state.counts, state.is_done) == (Counts(imported=1, refused=2), True)
    assert report(path) == [(2, ["malformed_line"]), (3, ["invalid_email"])]
    assert await names(services) == {}
    assert not progress_of(path).exists()
    await run(path, services)
    assert report(path) == [(2, ["malformed_line"]), (3, ["invalid_email"])]
    with pytest.raises(ImportFailure, match="has begun"):
        await examine_file(path, services.imports, advance=lambda _: None)
