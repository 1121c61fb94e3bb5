"""`pickguard doctor`: what is found in a store, as a table for a person or a document for a program.

The document of ``--json`` has these members, and programs have to put up with more:

```
format        1; another number if a member changes its meaning
store         the store's URL, without user, password and parameters
verdict       ok, warning, danger or unknown: the worst of what follows
findings      about servers and this machine, a list of {id, where, verdict, found, advice, durability}
inspection    about keys, or null where they were not looked at:
  accounts, sessions, claims, receipts, limits, probes, others    how many there are
  irregularities   the first of them, a list of {kind, key, detail, repaired}
  found            how many there are, for each kind
  repaired         how many of those have been repaired, for each kind
  postponed        how many more keys another run has to look into
error         why the keys could not be looked at, or null
```

The ids of findings and the kinds of irregularities do not change. There is no secret in any of it, and no address of a person.
"""

import asyncio
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from pickguard.domain.model.errors import StoreUnavailable
from pickguard.entrypoints.bootstrap import examine_hashing, find_store, open_checkup
from pickguard.entrypoints.settings import Settings
from pickguard.ports.checkup import Finding, Inspection, Irregularity, Kind, Progress, Verdict

ALL_WELL: Final = 0
NOT_EXAMINED: Final = 1
SOMETHING_WRONG: Final = 3

FORMAT: Final = 1

TOPICS: Final = {
    "Servers": ("reachable", "info", "version", "role", "loading", "memory", "hash-max-listpack-value"),
    "Durability": (
        "maxmemory-policy",
        "appendonly",
        "appendfsync",
        "no-appendfsync-on-rewrite",
        "aof-load-truncated",
        "aof-write",
        "aof-rewrite",
    ),
    "Replication": ("replicas", "min-replicas-to-write", "sentinel", "sentinels"),
    "Cluster": ("cluster", "cluster-require-full-coverage"),
    "Clocks": ("clock",),
    "Hashing": ("argon2",),
}
"""Under which heading a person finds each finding."""

EXPLANATIONS: Final = {
    Kind.UNREADABLE_ACCOUNT: ("accounts that cannot be read", "Restore them from a backup, or remove their keys."),
    Kind.MISSING_CLAIM: ("accounts without the claim on their address", "Run it again with --repair."),
    Kind.FOREIGN_CLAIM: ("accounts whose address is claimed by others", "Run it again with --repair."),
    Kind.SHARED_ADDRESS: (
        "accounts that share an address with another",
        "Find out whose it is, and delete the other, or change its address.",
    ),
    Kind.ORPHAN_CLAIM: ("claims without an account", "They do no harm; --repair releases them."),
    Kind.PENDING_CLAIM: ("young claims without an account yet", ""),
    Kind.UNREADABLE_CLAIM: (
        "claims that cannot be read",
        "If no newer version wrote them, delete their keys and run --repair.",
    ),
    Kind.UNKNOWN_KEY: ("keys that nobody here wrote", "Give other programs another prefix or database."),
    Kind.LASTING_KEY: ("keys that should expire and never will", "Delete them, or set them an expiry."),
    Kind.LASTING_ACCOUNT: ("deleted accounts that would stay after their time", "Run it again with --repair."),
    Kind.VANISHING_ACCOUNT: (
        "accounts that would vanish although nobody deleted them",
        "Run it again with --repair, soon; and find out what else sets expiries in this store.",
    ),
}
"""What each kind of irregularity is in a table, and what to do about it."""

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.DANGER: "bold red", Verdict.UNKNOWN: "magenta"}
_WORST_FIRST = (Verdict.DANGER, Verdict.UNKNOWN, Verdict.WARNING, Verdict.OK)
_SHOWN_KEYS = 10


class DoctorError(Exception):
    """The store cannot be examined. The message is one line for a person."""


@attrs.frozen(kw_only=True)
class Report:
    """All that was found."""

    store: str
    findings: tuple[Finding, ...]
    inspection: Inspection | None = None
    error: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of all verdicts; what has been repaired is well."""
        verdicts = {each.verdict for each in self.findings}
        if self.inspection is not None:
            verdicts |= {kind.verdict for kind in self.inspection.found if self.inspection.left(kind)}
            verdicts |= {Verdict.UNKNOWN} if self.inspection.postponed else set()
        return next((verdict for verdict in _WORST_FIRST if verdict in verdicts), Verdict.OK)

    def status(self, *, strict: bool) -> int:
        """Return the exit status."""
        if self.error is not None:
            return NOT_EXAMINED
        refused = strict and any(each.durability and each.verdict is not Verdict.OK for each in self.findings)
        in_danger = any(each.verdict is Verdict.DANGER for each in self.findings)
        inspection = self.inspection or Inspection()
        broken = any(kind.verdict is Verdict.DANGER and inspection.left(kind) for kind in inspection.found)
        return SOMETHING_WRONG if refused or in_danger or broken or inspection.postponed else ALL_WELL


def examine(settings: Settings, *, as_json: bool, scan: bool, repair: bool) -> int:
    """Examine the store that the settings name, print what is found, and return the exit status.

    Raises `DoctorError` where the store cannot be reached, `SettingsError` where it is none that can be looked at.
    """
    try:
        with find_store(settings) as found:
            shown = settings.shown_store if settings.store else f"embedded, in {settings.data_dir}"
            report = asyncio.run(_examine(found, shown, scan=scan, repair=repair))
    except StoreUnavailable as error:
        where = f"--store {settings.shown_store}: " if settings.store else ""
        raise DoctorError(f"{where}{error}") from error
    if as_json:
        click.echo(json.dumps(_document(report), indent=2))
    else:
        _print(report, Console())
    if report.error is not None:
        raise DoctorError(f"the keys could not be looked at: {report.error}")
    return report.status(strict=settings.strict_durability)


async def _examine(settings: Settings, shown: str, *, scan: bool, repair: bool) -> Report:
    async with open_checkup(settings) as checkup:
        report = Report(store=shown, findings=(*await checkup.examine(), examine_hashing()))
        if not scan:
            return report
        try:
            with _progress_bar(Console(stderr=True)) as advance:
                return attrs.evolve(report, inspection=await checkup.inspect(repair=repair, progress=advance))
        except StoreUnavailable as error:
            return attrs.evolve(report, error=str(error))


@contextmanager
def _progress_bar(console: Console) -> Generator[Callable[[Progress], None]]:
    """Show how far it is, where somebody may be looking."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("Looking at keys"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda now: bar.update(task, completed=now.seen, total=now.total)


def _document(report: Report) -> dict[str, object]:
    return {
        "format": FORMAT,
        "store": report.store,
        "verdict": report.verdict,
        "findings": [attrs.asdict(each) for each in report.findings],
        "inspection": attrs.asdict(report.inspection) if report.inspection is not None else None,
        "error": report.error,
    }


# For a person.


def _print(report: Report, console: Console) -> None:
    console.print(Text(f"Store: {report.store}", style="bold"))
    servers = {each.where for each in report.findings if each.id in {"version", "reachable", "info"}}
    several = {each.where for each in report.findings if each.id not in TOPICS["Hashing"]} != servers or len(servers) > 1
    table = _table("", "What was found", *(["Where"] if several else []))
    for topic, ids in TOPICS.items():
        rows = _merged([each for each in report.findings if each.id in ids])
        if rows:
            table.add_section()
            table.add_row("", Text(topic, style="bold"))
        for finding, where in rows:
            place = f"all {len(servers)} servers" if len(where) > 1 and set(where) == servers else "\n".join(where)
            places = [Text(place, overflow="fold")] if several else []
            table.add_row(_shown(finding.verdict), _sentences(finding.found, finding.advice), *places)
    console.print(table)
    if report.inspection is not None:
        _print_inspection(report.inspection, console)
    console.print(_conclusion(report))


def _print_inspection(inspection: Inspection, console: Console) -> None:
    table = _table("", "Keys", "Number")
    for what in ("accounts", "sessions", "claims", "receipts", "limits", "probes"):
        table.add_row("", what, f"{getattr(inspection, what):,}")
        if what == "accounts" and inspection.deleted:
            table.add_row("", "of these deleted, and to be restored for a time", f"{inspection.deleted:,}")
    if inspection.others:
        advice = "A database of its own keeps accounts apart from what others do to theirs."
        table.add_row("", _sentences("keys of other programs", advice), f"{inspection.others:,}")
    table.add_section()
    for kind, number in inspection.found.items():
        what, advice = EXPLANATIONS[kind]
        repaired = inspection.repaired.get(kind, 0)
        left = inspection.left(kind)
        count = f"{number:,}" if not repaired else f"{number:,}, repaired {repaired:,}"
        examples = [each for each in inspection.irregularities if each.kind is kind]
        cell = _sentences(what, advice if left else "", *_described(examples, number))
        table.add_row(_shown(kind.verdict if left else Verdict.OK), cell, count)
    if not inspection.found:
        table.add_row(_shown(Verdict.OK), "Every account is whole and has its claim, and every key its use.", "")
    if inspection.postponed:
        cell = _sentences("suspicious keys beyond those that one run looks into", "Run it again.")
        table.add_row(_shown(Verdict.UNKNOWN), cell, f"{inspection.postponed:,}")
    console.print(table)


def _described(examples: Sequence[Irregularity], number: int) -> list[str]:
    lines = [f"{each.key}: {each.detail}" for each in examples[:_SHOWN_KEYS]]
    return [*lines, f"… and {number - len(lines):,} more"] if number > len(lines) else lines


def _merged(findings: Sequence[Finding]) -> list[tuple[Finding, list[str]]]:
    """Put together what was found alike on several servers."""
    rows: dict[Finding, list[str]] = {}
    for each in findings:
        rows.setdefault(attrs.evolve(each, where=""), []).append(each.where)
    return list(rows.items())


def _table(*headings: str) -> Table:
    table = Table(expand=True)
    table.add_column(headings[0], no_wrap=True)
    table.add_column(headings[1], ratio=1)
    for heading in headings[2:]:
        table.add_column(heading, overflow="fold")
    return table


def _shown(verdict: Verdict) -> Text:
    return Text(verdict.value, style=_STYLES[verdict])


def _sentences(found: str, *more: str) -> Text:
    """Return what was found, and below it, dimmed, what there is to say about it."""
    text = Text(found, overflow="fold")
    for each in more:
        if each:
            text.append(f"\n{each}", style="dim")
    return text


def _conclusion(report: Report) -> Text:
    words = {
        Verdict.OK: "All is well.",
        Verdict.WARNING: "There are warnings.",
        Verdict.UNKNOWN: "Not all could be seen.",
        Verdict.DANGER: "Something is wrong.",
    }
    return Text(words[report.verdict], style=_STYLES[report.verdict])
