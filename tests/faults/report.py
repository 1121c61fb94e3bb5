"""The tables of the documentation: run ``python -m tests.faults.report FILE`` on what the tests of faults have written."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from tests.support.tally import ACKNOWLEDGED, RIGHTLY_REFUSED, UNAVAILABLE, UNKNOWN, VIOLATIONS

_OPERATIONS: Final = (ACKNOWLEDGED, RIGHTLY_REFUSED, UNAVAILABLE, UNKNOWN)


def tables(lines: Iterable[str]) -> str:
    """Return tables in Markdown: what was done, what came of it, and what unsafe settings lose. Equal faults are added up."""
    rows: dict[tuple[str, str], _Row] = {}
    for line in lines:
        each: Mapping[str, Any] = json.loads(line)
        row = rows.setdefault((each["fault"], each["engine"]), _Row(may_lose=each["may_lose"]))
        row.counts.update(each["counts"])
        row.slowest = max(row.slowest, each["slowest"])
    done: list[tuple[str, ...]] = []
    kept: list[tuple[str, ...]] = []
    unsafe: list[tuple[str, ...]] = []
    for subject, row in sorted(rows.items()):
        found = (*subject, *(_number(row.counts[kind]) for kind in VIOLATIONS))
        (unsafe if row.may_lose else kept).append(found)
        operations = (_number(row.counts[kind]) for kind in _OPERATIONS)
        done.append((*subject, _events(row.counts), *operations, f"{row.slowest:.2f} s"))
    total = sum((row.counts for row in rows.values() if not row.may_lose), Counter[str]())
    kept.append(("**all**", "", *(f"**{_number(total[kind])}**" for kind in VIOLATIONS)))
    heads = ("Fault", "Engine", *map(_heading, VIOLATIONS))
    parts = [
        _table(("Fault", "Engine", "How often", *map(_heading, _OPERATIONS), "Slowest call"), done, numbers_from=3),
        _table(heads, kept, numbers_from=2),
        _table(heads, unsafe, numbers_from=2) if unsafe else (),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


@attrs.define
class _Row:
    may_lose: bool
    counts: Counter[str] = attrs.field(factory=Counter)
    slowest: float = 0.0


def _events(counts: Counter[str]) -> str:
    """Return the counts that only some faults have: how often the fault happened, and what was looked at."""
    others = sorted((what, count) for what, count in counts.items() if what not in {*_OPERATIONS, *VIOLATIONS} and count)
    return ", ".join(f"{_number(count)} {what}" for what, count in others)


def _heading(kind: str) -> str:
    return kind.removeprefix("operations ").capitalize()


def _number(count: int) -> str:
    return f"{count:,}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' if place < numbers_from else '---:' for place in range(len(heads)))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.stdout.write(tables(Path(sys.argv[1]).read_text().splitlines()) + "\n")
