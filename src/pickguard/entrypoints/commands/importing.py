"""An import that can be interrupted anywhere, by a `kill -9` too, and goes on where it was.

Beside FILE stand two others. ``FILE.progress`` says how far the import is; it is replaced as a whole after each batch of lines,
when all that the batch did is stored. ``FILE.refused.ndjson`` has the lines that were refused. An import that is started again
begins after the last batch that is noted, and cuts the report to what was written by then.

The lines of the batch that was under way are tried again. Those that were imported are known again by their id: where a line
gives none, its id is made from its place in the file and a seed that is noted before the first line is read, so that it comes
out the same. Whether an address was taken by this import or by somebody else is therefore never in doubt.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Final

import attrs

from pickguard.domain.model.accounts import Account
from pickguard.domain.model.errors import AddressTaken, InvalidFields, Unavailable
from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, UserId, uuid7
from pickguard.domain.services.imports import Imported, Imports
from pickguard.entrypoints.commands.documents import as_line, written
from pickguard.entrypoints.commands.lines import Line, read_lines, reasons, understand

BATCH: Final = 1000
"""Lines between two notes of how far the import is."""
AT_ONCE: Final = 64
"""Lines that are imported side by side."""
PATIENCE: Final = 60.0
"""Seconds for which a line is tried again while the store is not available: longer than a claim of a crash lasts."""

_FORMAT: Final = 1
_OURS: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
"""How the report is opened: a link that somebody else has put there leads to no file of the operator's."""


class ImportFailure(Exception):
    """An import cannot begin or go on. The message is one line for a person."""


@attrs.frozen(kw_only=True)
class Counts:
    """What became of lines."""

    imported: int = 0
    present: int = 0
    """Those whose account was there already, by the same id and address."""
    refused: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            imported=self.imported + other.imported,
            present=self.present + other.present,
            refused=self.refused + other.refused,
        )


@attrs.frozen(kw_only=True)
class State:
    """How far an import of one file into one store is."""

    store: str
    size: int
    modified_ns: int
    seed: bytes = attrs.field(repr=False)
    started_at: datetime
    offset: int = 0
    lines: int = 0
    report_size: int = 0
    counts: Counts = Counts()

    @property
    def is_done(self) -> bool:
        """Whether every line of the file has been tried."""
        return self.offset >= self.size

    @classmethod
    def parse(cls, text: str) -> "State":
        """Read what `__str__` wrote. Raises ValueError for anything else."""
        try:
            found = json.loads(text)
            if found.pop("format") != _FORMAT:
                raise ValueError("of another version")
            counts = Counts(**found.pop("counts"))
            found["seed"] = bytes.fromhex(found["seed"])
            found["started_at"] = datetime.fromisoformat(found["started_at"])
            return cls(**found, counts=counts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not written by an import") from error

    def __str__(self) -> str:
        content = attrs.asdict(self) | {"seed": self.seed.hex(), "started_at": written(self.started_at)}
        return f"{json.dumps({'format': _FORMAT, **content}, indent=2)}\n"


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one line: refused for reasons, or else imported now or before."""

    line: Line
    is_new: bool = False
    refused: Sequence[dict[str, object]] = ()


class Import:
    """The import of one file into one store. Use `opened`."""

    def __init__(self, path: Path, file: IO[bytes], state: State) -> None:
        self.path = path
        self.state = state
        self._file = file

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, store: str, now: datetime) -> Generator["Import"]:
        """Open a file to begin the import of it into a store, or to go on with it. Raises `ImportFailure`.

        `store` is any text that tells one store from another.
        """
        with _opened(path) as file:
            facts = os.fstat(file.fileno())
            state = cls._noted(path)
            if state is None:
                state = State(
                    store=store,
                    size=facts.st_size,
                    modified_ns=facts.st_mtime_ns,
                    seed=secrets.token_bytes(),
                    started_at=now,
                )
                _replace(progress_of(path), str(state))
            elif state.store != store:
                raise ImportFailure(
                    f"{progress_of(path)} is of an import into {state.store}; remove it to begin anew, into {store}"
                )
            elif (state.size, state.modified_ns) != (facts.st_size, facts.st_mtime_ns):
                raise ImportFailure(
                    f"{path} was changed since the import of it began; remove {progress_of(path)} to begin anew"
                )
            yield cls(path, file, state)

    @staticmethod
    def _noted(path: Path) -> State | None:
        noted = progress_of(path)
        try:
            return State.parse(noted.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ImportFailure(f"{noted} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ImportFailure(f"{noted} is no note of an import's progress ({error}); remove it to begin anew") from error

    async def run(self, imports: Imports, *, advance: Callable[[State], None], batch: int = BATCH) -> None:
        """Import the lines that are left. Raises `ImportFailure`, after which it may be run again."""
        lines = read_lines(self._file, offset=self.state.offset, number=self.state.lines + 1)
        with _report(report_of(self.path), self.state.report_size) as report:
            while taken := list(islice(lines, batch)):
                outcomes = await self._import(imports, taken)
                size = report("".join(f"{as_line(_refusal(each))}\n" for each in outcomes if each.refused).encode())
                state = attrs.evolve(
                    self.state,
                    offset=taken[-1].end,
                    lines=taken[-1].number,
                    report_size=size,
                    counts=self.state.counts + _counted(outcomes),
                )
                _replace(progress_of(self.path), str(state))
                self.state = state
                advance(state)

    async def _import(self, imports: Imports, lines: Sequence[Line]) -> list[Outcome]:
        """Import lines side by side, and return what became of each, in their order. The first failure ends all."""
        waiting = iter(enumerate(lines))
        turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        outcomes: list[Outcome | None] = [None] * len(lines)

        async def take_turns() -> None:
            for place, line in waiting:
                outcomes[place] = await self._import_one(imports, line, turns)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, len(lines))):
                    group.create_task(take_turns())
        except* Unavailable as errors:
            raise ImportFailure(
                f"the import stopped after line {self.state.lines:,}: {errors.exceptions[0]}; run it again to go on"
            ) from errors
        return [each for each in outcomes if each is not None]

    async def _import_one(self, imports: Imports, line: Line, turns: defaultdict[str, asyncio.Lock]) -> Outcome:
        try:
            given = understand(line)
            account = imports.examine(given)
            if given.id is None:
                moment = self.state.started_at if given.created_at is None else account.user.created_at
                new_id = UserId(uuid7(moment, self._randomness(line)))
                account = attrs.evolve(account, user=attrs.evolve(account.user, id=new_id))
            async with turns[account.user.email.key]:  # of two lines with one address, the first one gets it
                imported = await _brought_over(imports, account)
        except (InvalidFields, AddressTaken) as error:
            return Outcome(line=line, refused=reasons(error))
        # An id that was made here is nobody else's.
        return Outcome(line=line, is_new=imported.is_new or given.id is None)

    def _randomness(self, line: Line) -> bytes:
        """Return what an id is made from: the same for a line whenever it is tried, and nothing that can be guessed."""
        assert line.content is not None  # noqa: S101 (it was understood)
        place = line.start.to_bytes(8, "big")
        return hmac.digest(self.state.seed, place + line.content, hashlib.sha256)[:UUID7_RANDOM_BYTES]


async def _brought_over(imports: Imports, account: Account) -> Imported:
    """Store an account, and try again while the store is not available."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + PATIENCE
    while True:
        try:
            return await imports.bring_over(account)
        except Unavailable as error:
            pause = error.retry_after.total_seconds()
            if loop.time() + pause > give_up_at:
                raise
            await asyncio.sleep(pause)


async def examine_file(path: Path, imports: Imports, *, advance: Callable[[State], None], batch: int = BATCH) -> State:
    """Try every line without importing any, and write those that would be refused to the report. Raises `ImportFailure`."""
    with _opened(path) as file:
        facts = os.fstat(file.fileno())
        if progress_of(path).exists():
            raise ImportFailure(f"{progress_of(path)} is there: an import of {path} has begun, which has a report of its own")
        state = State(
            store="", size=facts.st_size, modified_ns=facts.st_mtime_ns, seed=b"", started_at=datetime.fromtimestamp(0, UTC)
        )
        lines = read_lines(file, offset=0, number=1)
        with _report(report_of(path), 0) as report:
            while taken := list(islice(lines, batch)):
                outcomes = [_examined(imports, line) for line in taken]
                size = report("".join(f"{as_line(_refusal(each))}\n" for each in outcomes if each.refused).encode())
                counts = state.counts + _counted(outcomes)
                state = attrs.evolve(state, offset=taken[-1].end, lines=taken[-1].number, report_size=size, counts=counts)
                advance(state)
                await asyncio.sleep(0)
    return state


def _examined(imports: Imports, line: Line) -> Outcome:
    try:
        imports.examine(understand(line))
    except InvalidFields as error:
        return Outcome(line=line, refused=reasons(error))
    return Outcome(line=line, is_new=True)


def progress_of(path: Path) -> Path:
    """Return where the progress of a file's import is noted."""
    return path.with_name(f"{path.name}.progress")


def report_of(path: Path) -> Path:
    """Return where the lines of a file that were refused are told."""
    return path.with_name(f"{path.name}.refused.ndjson")


def _refusal(outcome: Outcome) -> dict[str, object]:
    return {"line": outcome.line.number, "errors": list(outcome.refused)}


def _counted(outcomes: Sequence[Outcome]) -> Counts:
    refused = sum(bool(each.refused) for each in outcomes)
    imported = sum(each.is_new for each in outcomes)
    return Counts(imported=imported, present=len(outcomes) - refused - imported, refused=refused)


@contextmanager
def _opened(path: Path) -> Generator[IO[bytes]]:
    """Open a file to be read by this process alone, of all that import."""
    with contextlib.ExitStack() as stack:
        try:
            if not path.is_file():
                what = "is no file that can be read twice" if path.exists() else "is not there"
                raise ImportFailure(f"{path} {what}")
            file = stack.enter_context(path.open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImportFailure(f"another import of {path} is under way") from None
        except OSError as error:
            raise ImportFailure(f"{path} cannot be read: {error.strerror}") from error
        yield file


@contextmanager
def _report(path: Path, size: int) -> Generator[Callable[[bytes], int]]:
    """Yield what adds to a report and returns its size; of what is there, so many bytes are kept. It is made when needed."""
    written_so_far = size
    with _failing_well(path):
        if size:
            descriptor = os.open(path, _OURS)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
        else:
            path.unlink(missing_ok=True)

    def add(text: bytes) -> int:
        nonlocal written_so_far
        if text:
            with _failing_well(path):
                descriptor = os.open(path, _OURS | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(descriptor, "ab") as output:
                    output.write(text)
                    output.flush()
                    os.fsync(output.fileno())
            written_so_far += len(text)
        return written_so_far

    yield add


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole: after a crash it holds the one text or the other."""
    with _failing_well(path):
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as output:
                output.write(text)
                output.flush()
                os.fsync(output.fileno())
            Path(name).replace(path)
            directory = os.open(path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def _failing_well(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImportFailure(f"{path} cannot be written: {error.strerror}") from error
