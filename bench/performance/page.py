"""`docs/performance.md`: tables and a picture, put between the marks in it. What stands around them is written by hand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from bench.performance.figures import Figure
from bench.performance.goals import Verdict
from bench.performance.results import Circumstances, Results
from bench.performance.services import ROOT

PAGE: Final = ROOT / "docs/performance.md"
PICTURE: Final = ROOT / "docs/images/performance.svg"
NONE: Final = "–"

OWN: Final = {
    "ceiling": "bare aiohttp `json_response`, uvloop, no log (the ceiling)",
    "get": "+ one redis-py GET for each request",
    "mget": "+ the GETs of one event-loop tick in one MGET",
    "pickguard": "**Pickguard**",
}
STORMS: Final = {"storm": "One core", "storm-two": "Two cores"}
LOADS: Final = {
    "calm": "32 readers alone",
    "storm": "and 8 who log in",
    "crowd": "and 64 who log in",
    "flood": "256 readers and 8 who log in",
}


@attrs.frozen(kw_only=True)
class Row:
    """A service in the table, with what was measured of it."""

    name: str
    title: str
    results: Results

    def figure(self, step: str, name: str, variant: str = "") -> Figure | None:
        return self.results.figure(step, variant or self.name, name)

    @property
    def p99_in_storm(self) -> Figure | None:
        """Of the peers, each is a variant of the step; of the service itself, the loads are."""
        return self.figure("storm", "p99") or (self.figure("storm", "p99", "storm") if self.name == "pickguard" else None)


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Put each part between its two marks. A part without marks is an error: it would be lost."""
    for name, part in parts.items():
        first, last = f"<!-- {name}: made by make bench -->\n", f"<!-- {name}: end -->"
        before, first_found, rest = page.partition(first)
        _, last_found, after = rest.partition(last)
        if not (first_found and last_found):
            raise ValueError(f"there is no place for {name}")
        page = f"{before}{first}\n{part}\n{last}{after}"
    return page


def rows(results: Results, peers: Results | None, titles: Mapping[str, str]) -> list[Row]:
    """Return what the table compares: what aiohttp can do, this service, and others if they were measured.

    Who measures the others measures these as well, so all of it is of one sitting, unless this service was measured once more.
    """
    newest = peers if peers and _together(results, peers) else results
    found = [Row(name=name, title=title, results=newest) for name, title in OWN.items()]
    if peers:
        found += [Row(name=name, title=title, results=peers) for name, title in titles.items() if peers.has("read", name)]
    return found


def _together(results: Results, peers: Results) -> bool:
    return peers.circumstances.ended >= results.circumstances.ended


def sitting(results: Results, peers: Results | None) -> str:
    """Return when the rows of the table were measured."""
    if peers is None:
        return f"Measured on {_day(results.circumstances)}."
    if _together(results, peers):
        return f"All of one sitting, in turns, on {_day(peers.circumstances)}."
    return f"The first four rows were measured on {_day(results.circumstances)}, the others on {_day(peers.circumstances)}."


def _day(about: Circumstances) -> str:
    return f"{about.began[:10]} at {about.began[11:16]} UTC"


def parts(results: Results, peers: Results | None, titles: Mapping[str, str], found: Sequence[Verdict]) -> dict[str, str]:
    """Return the parts of the page by the names of their marks."""
    return {
        "table": f"{comparison(rows(results, peers, titles))}\n{sitting(results, peers)}\n",
        "goals": goals(found),
        "loads": loads(results),
        "costs": costs(results),
        "circumstances": circumstances(results, peers),
    }


def comparison(compared: Sequence[Row]) -> str:
    head = (
        "",
        "processor time of a read, ms",
        "reads/s",
        "p99 of a read in a log-in storm, ms",
        "log-ins/s, one core",
        "idle memory, MiB",
        "cold start, s",
    )
    body = []
    for row in compared:
        log_ins = _shown(row.figure("log-in", "log_in_rate"), 1)
        if row.name == "ceiling" and (hashes := row.figure("log-in", "log_in_rate", "raw")):
            log_ins = f"{hashes.shown(1)} hashes alone"
        body.append(
            (
                row.title,
                _shown(row.figure("read", "cpu_ms"), 3),
                _shown(row.figure("read", "rps"), 0),
                _shown(row.p99_in_storm, 0),
                log_ins,
                _shown(row.figure("start", "rss"), 0),
                _shown(row.figure("start", "seconds"), 2),
            )
        )
    return table(head, body)


def goals(found: Sequence[Verdict]) -> str:
    body = [(str(each.goal), each.what, each.limit, each.figure or NONE, each.shown) for each in found]
    return table(("Goal", "of what", "goal", "measured", "verdict"), body, left=2)


def loads(results: Results) -> str:
    """Return how reads and log-ins get on beside each other."""
    head = (
        "",
        "reads/s",
        "p50 of a read, ms",
        "p99, ms",
        "log-ins/s",
        "p99 of a log-in, ms",
        "refused/s",
        "99 of 100 refused within, ms",
        "memory after, MiB",
    )
    body = []
    for step, cores in STORMS.items():
        for variant, title in LOADS.items():
            if not results.has(step, variant):
                continue

            def shown(name: str, digits: int, step: str = step, variant: str = variant) -> str:
                if variant == "calm" and name not in {"rps", "p50", "p99"}:
                    return NONE
                return _shown(results.figure(step, variant, name), digits)

            refused = variant != "calm" and results.steps[step].figure(variant, "refused_rate").high > 0
            body.append(
                (
                    f"{cores}, {title}",
                    *(shown(name, digits) for name, digits in (("rps", 0), ("p50", 1), ("p99", 1))),
                    *(shown(name, digits) for name, digits in (("log_in_rate", 1), ("log_in_p99", 0))),
                    *(shown(name, 1 if name == "refused_rate" else 0) if refused else NONE for name in REFUSALS),
                    shown("rss", 0),
                )
            )
    return table(head, body)


REFUSALS: Final = ("refused_rate", "refused_p99")


def costs(results: Results) -> str:
    """Return what a read costs in each way to serve it."""
    head = ("", "processor time, ms", "reads/s", "p50, ms", "p99, ms", "Redis, µs", "Redis commands")
    ways = (
        *(("read", name, title.replace("**", "")) for name, title in OWN.items()),
        ("tls", "plain", "Pickguard, beside the same over TLS"),
        ("tls", "tls", "Pickguard over TLS, connections kept"),
        ("workers", "1", "Pickguard, one worker, two cores"),
        ("workers", "2", "Pickguard, two workers, two cores"),
    )
    names = (("cpu_ms", 3), ("rps", 0), ("p50", 1), ("p99", 1), ("redis_us", 0), ("redis_commands", 2))
    body = [
        (title, *(_shown(results.figure(step, variant, name), digits) for name, digits in names))
        for step, variant, title in ways
        if results.has(step, variant)
    ]
    return table(head, body)


def circumstances(results: Results, peers: Results | None) -> str:
    """Return on what it was measured, and how much others took of it meanwhile."""
    lines = _about("Pickguard and the ceiling", results.circumstances)
    body = [_noise(name, results) for name in results.steps]
    if peers:
        lines += _about("The others", peers.circumstances)
        body += [_noise(name, peers, "others: ") for name in peers.steps]
    head = ("step", "rounds that count", "of", "cores that others took")
    return f"{lines}\n{table(head, body)}"


def _about(what: str, about: Circumstances) -> str:
    began, ended = (each.replace("T", " ").removesuffix("+00:00")[:16] for each in (about.began, about.ended))
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return (
        f"- {what}: {began} to {ended[-5:]} UTC, commit {about.commit}, {about.cores} cores of {about.processor}, "
        f"{about.system}; {versions}.\n"
    )


def _noise(name: str, results: Results, prefix: str = "") -> tuple[str, str, str, str]:
    step = results.steps[name]
    return f"{prefix}{name}", str(len(step.kept)), str(len(step.rounds)), step.foreign.shown(2)


def _shown(figure: Figure | None, digits: int) -> str:
    return figure.shown(digits) if figure else NONE


def table(head: Sequence[str], body: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table in Markdown, with figures aligned at the right."""
    widths = [max(3, *(len(row[column]) for row in (head, *body))) for column in range(len(head))]
    rule = [("-" * width) if at < left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]

    def lines() -> Iterator[str]:
        for row in (head, rule, *body):
            cells = (
                cell.ljust(width) if at < left else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield f"| {' | '.join(cells)} |\n"

    return "".join(lines())
