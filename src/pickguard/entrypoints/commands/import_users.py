"""`pickguard import`."""

import asyncio
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from pickguard.entrypoints.bootstrap import Services, open_services
from pickguard.entrypoints.commands.common import (
    FOUND_WRONG,
    INTERRUPTED,
    STORE_SETTINGS,
    Command,
    fail,
    load,
    say,
    settings_options,
)
from pickguard.entrypoints.commands.documents import as_text
from pickguard.entrypoints.commands.importing import (
    Import,
    ImportFailure,
    State,
    examine_file,
    progress_of,
    report_of,
)
from pickguard.entrypoints.commands.progress import progress
from pickguard.entrypoints.commands.stores import work
from pickguard.entrypoints.settings import Settings


@click.command(
    "import",
    cls=Command,
    short_help="Make an account for each line of a file.",
    examples="""
    pickguard import users.ndjson --dry-run
    pickguard import users.ndjson
    pickguard import users.ndjson --json | jq .refused
    """,
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Look at every line, import none, and open no store.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of the lines as one JSON document, for programs.")
@settings_options(*STORE_SETTINGS)
def command(*, file: Path, dry_run: bool, as_json: bool, **given: str | None) -> None:
    """Make an account for each line of FILE, with the password that it had elsewhere.

    A line is a JSON object (NDJSON): "name", "email" and "password_hash"; and if they are known, "email_verified" (false),
    "created_at" (now), "disabled" (false), "deletes_at" (null) and "id", a UUIDv7 (a new one). `pickguard export` writes such
    lines.

    It can be interrupted at any time, and goes on where it was when it is run again: FILE.progress says how far it is. Lines
    that are refused are told in FILE.refused.ndjson, each with its number and the reasons, and the others are imported. An
    address that has an account keeps it as it is. What was imported stays, whatever becomes of the rest.

    Status 3: some lines were refused. Status 1: it could not go on; run it again.
    """
    settings = load(given)
    try:
        total = file.stat().st_size
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    try:
        state = (
            asyncio.run(_examine(file, total))
            if dry_run
            else work(settings, lambda services: _import(settings, file, services))
        )
    except ImportFailure as error:
        fail(str(error))
    except KeyboardInterrupt:
        say(f"interrupted; what was imported stays, and `pickguard import {shlex.quote(str(file))}` goes on")
        sys.exit(INTERRUPTED)
    counts = state.counts
    if as_json:
        report = str(report_of(file)) if counts.refused else None
        members = {"lines": state.lines, "imported": counts.imported, "present": counts.present, "refused": counts.refused}
        click.echo(as_text({"dry_run": dry_run, **members, "report": report}))
    else:
        click.echo(_summary(state.lines, counts.imported, counts.present, dry_run=dry_run))
        if counts.refused:
            click.echo(f"{counts.refused:,} refused: see {report_of(file)}")
    if counts.refused:
        sys.exit(FOUND_WRONG)


async def _examine(file: Path, total: int) -> State:
    async with open_services(Settings(store="memory:")) as services:
        with progress("Examining", total=total) as advance:
            return await examine_file(file, services.imports, advance=lambda state: advance(*_shown(state)))


async def _import(settings: Settings, file: Path, services: Services) -> State:
    with Import.opened(file, store=_name_of(settings), now=datetime.now(UTC)) as running:
        if running.state.is_done:
            say(f"nothing is left to do: {progress_of(file)} says that every line of {file} has been tried")
        with progress("Importing", total=running.state.size) as advance:
            await running.run(services.imports, advance=lambda state: advance(*_shown(state)))
        return running.state


def _shown(state: State) -> tuple[int, str]:
    refused = f", {state.counts.refused:,} refused" if state.counts.refused else ""
    return state.offset, f"{state.lines:,} lines{refused}"


def _summary(lines: int, imported: int, present: int, *, dry_run: bool) -> str:
    if dry_run:
        return f"{lines:,} lines: {imported:,} can be imported, unless their address has an account"
    there = f", {present:,} were there already" if present else ""
    return f"{lines:,} lines: {imported:,} imported{there}"


def _name_of(settings: Settings) -> str:
    """Return what tells the store from another."""
    return settings.shown_store if settings.store else f"embedded, in {settings.data_dir.resolve()}"
