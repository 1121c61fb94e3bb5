"""The goals, and whether they are met."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from bench.performance.figures import Figure
from bench.performance.results import FOLDER, Results

SCALE: Final = FOLDER / "scale.json"
"""What `bench/scale.py --json` wrote: the bytes for each user are measured there."""

READS_PER_CEILING: Final = 0.80
CPU_PER_CEILING: Final = 0.16 / 0.128
"""The goal is 0.16 ms where the ceiling is 0.128; on another machine both are other figures, and their ratio is the same."""
COMMANDS: Final = 1.05
"""Of reads that are under way when counting begins or ends, the command is counted and the read is not, or the reverse."""
LOG_INS_PER_HASH: Final = 0.92
BESIDES_HASH_MS: Final = 2.5
STORM_RATIO: Final = 3.0
STORM_MS: Final = {"storm-two": 30.0, "storm": 60.0}
LOG_INS_IN_STORM: Final = 12.0
REFUSAL_MS: Final = 100.0
RESIDENT_MIB: Final = 70.0
SLOT_MIB: Final = 20.0
SLOTS: Final = 2
"""The service hashes on as many threads as it has cores, and in a storm on two cores it uses both."""
START_SECONDS: Final = {"pickguard": 0.6, "embedded": 1.0}
WORKERS_RATIO: Final = 1.1
"""As with one, within what two runs of the same thing differ by."""
BYTES: Final = 600.0
FLAT: Final = 1.1
TLS_RATIO: Final = 1.25


@attrs.frozen(kw_only=True)
class Verdict:
    """One figure that a goal asks for. `met` is None where it was not measured."""

    goal: int
    what: str
    limit: str
    figure: str
    met: bool | None

    @property
    def shown(self) -> str:
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]


def verdicts(results: Results, scale: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Return what has become of all goals. Medians decide."""
    found = [
        *_reading(results),
        *_logging_in(results),
        *_storms(results),
        *_footprint(results),
        *_rest(results),
        *_bytes(scale),
    ]
    return sorted(found, key=lambda each: each.goal)


def read_scale(path: Path = SCALE) -> Sequence[Mapping[str, Any]]:
    """Return the costs of one user with one session, by number of users; none where that was not measured."""
    if not path.exists():
        return []
    stored: list[Mapping[str, Any]] = json.loads(path.read_text())
    return [each for each in stored if each["mix"] == "one session"]


@attrs.frozen
class Limit:
    """How much there may be of something at most, or must be at least."""

    value: float
    unit: str = ""
    digits: int = 0
    least: bool = attrs.field(default=False, kw_only=True)

    def allows(self, figure: Figure) -> bool:
        return figure.median >= self.value if self.least else figure.median <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.value:,.{self.digits}f} {self.unit}".rstrip()


def judge(goal: int, what: str, figure: Figure | None, limit: Limit) -> Verdict:
    if figure is None:
        return Verdict(goal=goal, what=what, limit=str(limit), figure="", met=None)
    shown = f"{figure.shown(limit.digits)} {limit.unit}".rstrip()
    return Verdict(goal=goal, what=what, limit=str(limit), figure=shown, met=limit.allows(figure))


def _ratio(results: Results, step: str, name: str, variant: str, other: str) -> Figure | None:
    return results.steps[step].ratio(name, variant, other) if results.has(step, variant, other) else None


def _reading(results: Results) -> Iterator[Verdict]:
    reads, cpu = (_ratio(results, "read", name, "pickguard", "ceiling") for name in ("rps", "cpu_ms"))
    yield judge(1, "reads/s, of the ceiling's", reads and reads.times(100), Limit(100 * READS_PER_CEILING, "%", 0, least=True))
    verdict = judge(1, "processor time of a read, in ceilings", cpu, Limit(CPU_PER_CEILING, "", 2))
    own, least = (results.figure("read", variant, "cpu_ms") for variant in ("pickguard", "ceiling"))
    if own and least:
        both = f"{own.median:.3f} ms where the ceiling takes {least.median:.3f} ms"
        verdict = attrs.evolve(verdict, figure=f"{verdict.figure}: {both}")
    yield verdict
    commands = results.figure("read", "pickguard", "redis_commands")
    met = None if commands is None else commands.median <= COMMANDS
    yield Verdict(goal=1, what="Redis commands for a read", limit="1", figure=commands.shown(2) if commands else "", met=met)


def _logging_in(results: Results) -> Iterator[Verdict]:
    rate = _ratio(results, "log-in", "log_in_rate", "pickguard", "raw")
    yield judge(
        2,
        "log-ins/s on one core, of hashes/s alone",
        rate and rate.times(100),
        Limit(100 * LOG_INS_PER_HASH, "%", 0, least=True),
    )
    besides = None
    if results.has("log-in", "pickguard", "raw"):
        step = results.steps["log-in"]
        rounds = [each["pickguard"]["cpu_ms"] - each["raw"]["cpu_ms"] for each in step.kept]
        medians = [step.figure(variant, "cpu_ms").median for variant in ("pickguard", "raw")]
        besides = Figure(median=medians[0] - medians[1], low=min(rounds), high=max(rounds))
    yield judge(2, "processor time of a log-in besides the hash", besides, Limit(BESIDES_HASH_MS, "ms", 1))


def _storms(results: Results) -> Iterator[Verdict]:
    ratio = _ratio(results, "storm-two", "p99", "storm", "calm")
    yield judge(3, "p99 of a read in a storm, two cores, of that in calm", ratio, Limit(STORM_RATIO, "times", 1))
    for step, cores in (("storm-two", "two cores"), ("storm", "one core")):
        p99 = results.figure(step, "storm", "p99")
        verdict = judge(3, f"p99 of a read in a storm on {cores}", p99, Limit(STORM_MS[step], "ms", 1))
        failed = results.figure(step, "storm", "reads_failed")
        if failed and failed.high:
            # What is refused is answered fast, and would make the quantile better.
            verdict = attrs.evolve(verdict, figure=f"{verdict.figure}, and {failed.high:,.0f} reads failed", met=False)
        yield verdict
    log_ins = results.figure("storm", "storm", "log_in_rate")
    yield judge(3, "log-ins/s in a storm on one core, beside reads", log_ins, Limit(LOG_INS_IN_STORM, "", 1, least=True))
    for step, cores in (("storm", "one core"), ("storm-two", "two cores")):
        yield _refusals(results, step, cores)
    flood = results.figure("storm", "flood", "log_in_rate")
    yield Verdict(
        goal=3,
        what="log-ins/s under a flood of reads on one core",
        limit="> 0",
        figure=flood.shown(1) if flood else "",
        met=None if flood is None else flood.low > 0,
    )


def _refusals(results: Results, step: str, cores: str) -> Verdict:
    """Of 100 refusals 99 must be in time, and each must say when to come again."""
    what = f"99 of 100 refusals in a storm on {cores}"
    figure = None
    without = 0.0
    if results.has(step, "crowd"):
        rounds = [each["crowd"] for each in results.steps[step].kept if each["crowd"]["refused"]]
        without = sum(run["without_retry_after"] for run in rounds)
        if not rounds:
            return Verdict(goal=3, what=what, limit=f"≤ {REFUSAL_MS:.0f} ms", figure="none was refused", met=None)
        figure = Figure.of(run["refused_p99"] for run in rounds)
    verdict = judge(3, what, figure, Limit(REFUSAL_MS, "ms", 0))
    if not without:
        return verdict
    return attrs.evolve(verdict, figure=f"{verdict.figure}, {without:.0f} without `Retry-After`", met=False)


def _footprint(results: Results) -> Iterator[Verdict]:
    yield judge(4, "memory of an idle worker", results.figure("start", "pickguard", "rss"), Limit(RESIDENT_MIB, "MiB", 0))
    busy = results.figure("storm-two", "crowd", "rss")
    yield judge(4, f"the same after a storm with {SLOTS} hashing slots", busy, Limit(RESIDENT_MIB + SLOTS * SLOT_MIB, "MiB", 0))
    for variant, store in (("pickguard", "an external store"), ("embedded", "the embedded store")):
        seconds = results.figure("start", variant, "seconds")
        yield judge(4, f"cold start with {store}", seconds, Limit(START_SECONDS[variant], "s", 2))


def _rest(results: Results) -> Iterator[Verdict]:
    workers = _ratio(results, "workers", "cpu_ms", "2", "1")
    yield judge(5, "processor time of a read with two workers, of that with one", workers, Limit(WORKERS_RATIO, "times", 2))
    tls = _ratio(results, "tls", "cpu_ms", "tls", "plain")
    yield judge(7, "processor time of a read over TLS, of that without", tls, Limit(TLS_RATIO, "times", 2))
    for name, version in (("resumes_1_3", "TLS 1.3"), ("resumes_1_2", "TLS 1.2")):
        resumes = results.figure("tls", "tls", name)
        met = None if resumes is None else resumes.median == 1
        shown = {True: "yes", False: "no", None: ""}[met]
        yield Verdict(goal=7, what=f"a session of {version} is resumed", limit="yes", figure=shown, met=met)


def _bytes(scale: Sequence[Mapping[str, Any]]) -> Iterator[Verdict]:
    figure = Figure.of(each["total_bytes"] for each in scale) if scale else None
    yield judge(6, "memory of Redis for a user with one session", figure, Limit(BYTES, "B", 0))
    flat = None
    if figure:
        flat = Figure.of([figure.high / figure.low])
    sizes = [each["accounts"] for each in scale]
    span = f"from {min(sizes):,} to {max(sizes):,} users" if scale else "from a thousand to a million users"
    yield judge(6, f"most of that to least, {span}", flat, Limit(FLAT, "times", 2))
