"""`pickguard export`."""

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable, Generator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

import click

from pickguard.domain.model.accounts import Account
from pickguard.entrypoints.bootstrap import Services
from pickguard.entrypoints.commands.common import (
    FOUND_WRONG,
    STORE_SETTINGS,
    Command,
    fail,
    load,
    refuse,
    say,
    settings_options,
)
from pickguard.entrypoints.commands.documents import as_line, user_document
from pickguard.entrypoints.commands.progress import progress
from pickguard.entrypoints.commands.stores import Walk, work


@click.command(
    "export",
    cls=Command,
    short_help="Write all accounts to a file.",
    examples="""
    pickguard export users.ndjson
    pickguard export --no-hashes | jq -r .email
    pickguard export users.ndjson --store redis://redis.example.com
    """,
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option("--no-hashes", is_flag=True, help="Leave out the hashes of passwords. Such a file cannot be imported.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@settings_options(*STORE_SETTINGS)
def command(*, file: Path, no_hashes: bool, force: bool, **given: str | None) -> None:
    """Write all accounts to FILE, or to standard output: a line of JSON for each (NDJSON), in no order.

    Each account is as of one moment, while the service runs. A line has the user and the hash of the password; sessions,
    activity and what was mailed are left out, so a backup of the store is something else. Who has such a file can guess at
    the passwords for as long as they like: FILE can be read by nobody but you. It is there when it is complete.

    Accounts that are made or removed meanwhile may be in it or not, and one may be in it twice, which an import puts up with.
    Status 3: some accounts cannot be read, and are left out; they are named.
    """
    settings = load(given)
    to_stdout = str(file) == "-"
    if not to_stdout and file.exists() and not force:
        refuse(f"{file} is there already: add --force to write over it")
    if not to_stdout and file.exists() and not file.is_file():
        refuse(f"{file} is no file: for a pipe or a device, export to standard output")

    async def task(services: Services) -> int:
        walk, number = Walk(services), 0
        if not no_hashes:
            say("the export holds the hashes of all passwords: keep it as safe as the store itself")
        with _opened(None if to_stdout else file) as write, progress("Exporting", total=None) as advance:
            async with aclosing(walk.pages()) as pages:
                async for entries in pages:
                    found = await asyncio.gather(*(services.accounts.get(entry.user.id) for entry in entries))
                    lines = [_line(each.account, with_hash=not no_hashes) for each in found if each is not None]
                    write("".join(f"{line}\n" for line in lines).encode())
                    number += len(lines)
                    advance(number, f"{number:,} accounts")
        say(f"{number:,} account{'' if number == 1 else 's'} exported" + ("" if to_stdout else f" to {file}"))
        return walk.unreadable

    if work(settings, task):
        sys.exit(FOUND_WRONG)


def _line(account: Account, *, with_hash: bool) -> str:
    document = user_document(account.user)
    del document["pending_email"]  # it is to be asked for again: nothing that was mailed for it is exported
    return as_line(document | ({"password_hash": account.credential.password_hash} if with_hash else {}))


@contextmanager
def _opened(path: Path | None) -> Generator[Callable[[bytes], object]]:
    """Yield what writes to a file that is there, by its name, only when it is complete; to standard output for None."""
    if path is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    partial = path.with_name(f"{path.name}.partial")
    if _is_being_written(partial):
        fail(f"another export to {path} is under way")
    try:
        with suppress(FileNotFoundError):
            partial.unlink()
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        fail(f"{partial} cannot be written: {error.strerror}")
    is_complete = False
    try:
        with os.fdopen(descriptor, "wb") as output:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield output.write
            output.flush()
            os.fsync(output.fileno())
            partial.replace(path)
            is_complete = True
    except OSError as error:
        fail(f"{partial} cannot be written: {error.strerror}")
    finally:
        if not is_complete:
            partial.unlink(missing_ok=True)


def _is_being_written(partial: Path) -> bool:
    """Tell whether another export has this file. What one that was killed has left is nobody's."""
    try:
        descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # there is none, or it is none of ours
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
