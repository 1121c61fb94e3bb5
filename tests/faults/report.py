"""The tables of the documentation: run ``python -m tests.faults.report FILE`` on what the tests of faults have written."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from tests.support.tally import (
    ACKNOWLEDGED,
    BROKEN,
    FALSE_REFUSAL,
    FALSE_SUCCESS,
    IMPOSSIBLE,
    LOST,
    RIGHTLY_REFUSED,
    UNAVAILABLE,
    UNKNOWN,
    VIOLATIONS,
)

_OPERATIONS: Final = (ACKNOWLEDGED, RIGHTLY_REFUSED, UNAVAILABLE, UNKNOWN)
_HEADS: Final = ("Fault", "How often", "Acknowledged", "Answered 503", "Outcome unknown", "Slowest call")
_JUDGED: Final = {
    "Acknowledged and lost": (LOST,),
    "Half done": (BROKEN, IMPOSSIBLE),
    "Answered falsely": (FALSE_REFUSAL, FALSE_SUCCESS),
}
_NOT_EVENTS: Final = {*_OPERATIONS, *VIOLATIONS, "accounts checked", "claims left without account"}


def tables(lines: Iterable[str]) -> str:
    """Return tables in Markdown: what was done and what came of it, then the same of settings that are not safe.

    Equal faults are added up, over the engines as well, which are named at the end.
    """
    rows: dict[str, _Row] = {}
    engines = set()
    for line in lines:
        each: Mapping[str, Any] = json.loads(line)
        row = rows.setdefault(each["fault"], _Row(may_lose=each["may_lose"]))
        row.counts.update(each["counts"])
        row.slowest = max(row.slowest, each["slowest"])
        engines.add(each["engine"])
    safe = {fault: row for fault, row in sorted(rows.items()) if not row.may_lose}
    unsafe = {fault: row for fault, row in sorted(rows.items()) if row.may_lose}
    total = _Row(may_lose=False)
    for row in safe.values():
        total.counts.update(row.counts)
        total.slowest = max(total.slowest, row.slowest)
    accounts = f"{_number(total.counts['accounts checked'])} accounts looked at, key by key"
    parts = [
        [*_table([_shown(fault, row) for fault, row in safe.items()]), _line(["**all**", accounts, *_shown("", total)[2:]])],
        _table([_shown(fault, row) for fault, row in unsafe.items()]) if unsafe else [],
        [f"Engines: {', '.join(sorted(engines))}."],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


@attrs.define
class _Row:
    may_lose: bool
    counts: Counter[str] = attrs.field(factory=Counter)
    slowest: float = 0.0


def _shown(fault: str, row: _Row) -> list[str]:
    operations = (_number(row.counts[kind]) for kind in (ACKNOWLEDGED, UNAVAILABLE, UNKNOWN))
    judged = (_number(sum(row.counts[kind] for kind in kinds)) for kinds in _JUDGED.values())
    return [fault, _events(row.counts), *operations, f"{row.slowest:.2f} s" if row.slowest else "", *judged]


def _events(counts: Counter[str]) -> str:
    """Return the counts that only some faults have: how often the fault happened. Those that are equal have one number."""
    alike: dict[int, list[str]] = {}
    for what, count in sorted(counts.items()):
        if what not in _NOT_EVENTS and count:
            alike.setdefault(count, []).append(what)
    return "; ".join(f"{_number(count)} {', '.join(names)}" for count, names in alike.items())


def _number(count: int) -> str:
    return f"{count:,}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    heads = [*_HEADS, *_JUDGED]
    rule = ["---" if place < len(("Fault", "How often")) else "---:" for place in range(len(heads))]
    return [_line(heads), _line(rule), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(tables(Path(sys.argv[1]).read_text().splitlines()) + "\n")
