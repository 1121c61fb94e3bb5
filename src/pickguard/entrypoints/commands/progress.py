"""How far a long command is: a bar where somebody may be looking, else a line every few seconds, on standard error."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from pickguard.entrypoints.commands.common import packages_of_the_server, say

EVERY: Final = 5.0
"""Seconds between two lines."""

Advance = Callable[[int, str], None]
"""Takes how much is done, and words for it."""


@contextmanager
def progress(what: str, *, total: int | None) -> Generator[Advance]:
    """Show how far something is. Without a total, only the words are shown."""
    with packages_of_the_server():
        from rich.console import Console  # noqa: PLC0415 (for few commands only)
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total)
        return
    bar = [BarColumn(), TaskProgressColumn()] if total is not None else []
    columns = (SpinnerColumn(), TextColumn(what), *bar, TextColumn("{task.fields[words]}"))
    rest = [TimeRemainingColumn()] if total is not None else []
    with Progress(*columns, *rest, console=console, transient=True) as shown:
        task = shown.add_task("", total=total, words="")
        yield lambda done, words: shown.update(task, completed=done, words=words)


def _lines(what: str, total: int | None) -> Advance:
    last = time.monotonic()

    def advance(done: int, words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            share = f" {done * 100 // total} %," if total else ""
            say(f"{what}:{share} {words}")

    return advance
