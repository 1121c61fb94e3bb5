"""`pickguard tune-argon2`: what hashes of several costs take on this machine, and which of them to choose.

The document of ``--json`` has these members, and programs have to put up with more:

```
format         1; another number if a member changes its meaning
target_ms      the time that one hash may take
threads        how many hashes ran at once, as they do in one worker
workers        how many processes the memory is counted for
memory_mib     what all hashes together may take, in MiB
measurements   a list of {memory_kib, time_cost, parallelism, milliseconds, per_second, most_memory_mib}, the cheapest first:
               what one hash takes while all threads hash, how many one worker makes in a second, and the most that all workers
               together take
proposal       one of these
options        the proposal as options of `pickguard serve`
fits           whether the proposal keeps to the time and the memory; the least that is acceptable is proposed if nothing does
```

The proposal follows RFC 9106, section 4: as much memory as is to be had within the time, and then as many passes as go into
what is left of it. It is never below the least that OWASP's Password Storage Cheat Sheet accepts, 19 MiB and 2 passes.
"""

import asyncio
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from pickguard.domain.model.errors import HashingOverloaded
from pickguard.entrypoints.bootstrap import Argon2Hasher, Argon2Parameters, available_cores
from pickguard.entrypoints.settings import MAX_HASH_WORK_KIB, Settings, show_duration
from pickguard.ports.hashing import Purpose

FORMAT: Final = 1

KIB_PER_MIB: Final = 1024
LEAST_MEMORY_KIB: Final = 19_456
LEAST_TIME_COST: Final = 2
MOST_TIME_COST: Final = 100
MEMORIES_KIB: Final = (
    LEAST_MEMORY_KIB,
    32_768,
    47_104,  # OWASP's other choice, which it accepts with one pass already
    65_536,  # the second recommended choice of RFC 9106
    98_304,
    131_072,
    196_608,
    262_144,
    393_216,
    524_288,
    1_048_576,
    2_097_152,  # the first recommended choice of RFC 9106
)
LEAST_MEASURED: Final = 4
SHARE_OF_MEMORY: Final = 4
"""A quarter of the machine's memory may go to hashes, if nothing else is said."""

_PART_FOR_PROOF: Final = 0.25
"""Of the time to measure in: what is kept to measure the proposal itself."""
_TRIES: Final = 4
"""How often a proposal that turns out too slow is made cheaper."""
_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class TuningError(Exception):
    """Nothing can be measured. The message is one line for a person."""


@attrs.frozen(kw_only=True)
class Measurement:
    """What hashes of one cost take while all threads hash."""

    parameters: Argon2Parameters
    seconds: float
    """One hash: the median."""
    per_second: float
    """All threads together."""


@attrs.frozen(kw_only=True)
class Tuning:
    """What was measured, and what is proposed."""

    target: timedelta
    threads: int
    workers: int
    memory_kib: int
    measurements: tuple[Measurement, ...]
    proposal: Measurement

    @property
    def fits(self) -> bool:
        """Whether the proposal keeps to the time and the memory."""
        return self.proposal.seconds <= self.target.total_seconds() and self.most_memory_kib(self.proposal) <= self.memory_kib

    def most_memory_kib(self, measurement: Measurement) -> int:
        """Return what the hashes of all workers take at most, all threads hashing."""
        return self.workers * self.threads * measurement.parameters.memory_kib


Measure = Callable[[Argon2Parameters, float], Measurement | None]
"""Measures one cost for some seconds, at least one hash in each thread. None where its memory cannot be had."""


def tune(settings: Settings, *, target: timedelta, memory_mib: int | None, budget: timedelta, as_json: bool) -> None:
    """Measure this machine within about `budget`, and print what hashes take and which cost to choose.

    Threads, lanes and workers are those of the settings. Raises `TuningError` where not even the cheapest hash can be made.
    """
    threads = settings.hash_threads or available_cores()
    memory_kib = memory_mib * KIB_PER_MIB if memory_mib else machine_memory_kib() // SHARE_OF_MEMORY
    with _progress(Console(stderr=True), budget) as advance:

        def measure(parameters: Argon2Parameters, seconds: float) -> Measurement | None:
            advance(f"{_mib(parameters.memory_kib)} MiB, {parameters.time_cost} passes")
            return asyncio.run(measure_hashes(parameters, threads=threads, seconds=seconds))

        tuning = propose(
            measure,
            target=target,
            threads=threads,
            workers=settings.workers,
            parallelism=settings.hash_parallelism,
            memory_kib=memory_kib,
            budget=budget,
        )
    if as_json:
        click.echo(json.dumps(document(tuning), indent=2))
    else:
        _print(tuning, Console())


def propose(
    measure: Measure,
    *,
    target: timedelta,
    threads: int,
    workers: int,
    parallelism: int,
    memory_kib: int,
    budget: timedelta,
    now: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Measure costs, each dearer than the one before, until they take longer than `target` or more than `memory_kib`.

    `LEAST_MEASURED` are measured in any case, if memory and time allow. A cost that would, by the one before it, not be
    measured within the rest of `budget` is left out. Raises `TuningError` where not even the cheapest can be measured.
    """
    ends = now() + budget.total_seconds()
    begins_proof = ends - _PART_FOR_PROOF * budget.total_seconds()
    share = (begins_proof - now()) / len(MEMORIES_KIB)
    found: list[Measurement] = []
    for memory in MEMORIES_KIB:
        if found:
            expected = found[-1].seconds * memory / found[-1].parameters.memory_kib
            too_slow = found[-1].seconds > target.total_seconds() and len(found) >= LEAST_MEASURED
            if too_slow or workers * threads * memory > memory_kib or now() + expected > begins_proof:
                break
        measured = measure(_cost(memory, LEAST_TIME_COST, parallelism), share)
        if measured is None:
            break
        found.append(measured)
    if not found:
        raise TuningError(
            f"there is no memory for {threads} hashes at once of {_mib(LEAST_MEMORY_KIB)} MiB each: lower --hash-threads"
        )
    within = [each for each in found if each.seconds <= target.total_seconds()]
    chosen = within[-1] if within else found[0]
    dearer: list[Measurement] = []
    passes = _passes(chosen, target)
    for _ in range(_TRIES):
        expected = chosen.seconds * passes / LEAST_TIME_COST
        if passes <= LEAST_TIME_COST or now() + expected > ends:
            break
        proven = measure(_cost(chosen.parameters.memory_kib, passes, parallelism), max(0.0, ends - now()) / _TRIES)
        if proven is None:
            break
        dearer.append(proven)
        if proven.seconds <= target.total_seconds():
            chosen = proven
            break
        passes = min(passes - 1, _passes(proven, target))
    every = sorted([*found, *dearer], key=lambda each: (each.parameters.memory_kib, each.parameters.time_cost))
    return Tuning(
        target=target, threads=threads, workers=workers, memory_kib=memory_kib, measurements=tuple(every), proposal=chosen
    )


async def measure_hashes(parameters: Argon2Parameters, *, threads: int, seconds: float) -> Measurement | None:
    """Hash in all threads at once for so many seconds, as the service does, and at least once in each."""
    taken: list[float] = []

    async def hash_on(hasher: Argon2Hasher, ends: float) -> None:
        while True:
            began = time.perf_counter()
            await hasher.hash("correct horse battery staple", purpose=Purpose.LOG_IN)
            taken.append(time.perf_counter() - began)
            if time.perf_counter() >= ends:
                return

    # Each task has a thread that is free for it, or about to be: what is refused is refused for want of memory.
    async with Argon2Hasher(parameters=parameters, threads=threads, wait_budget=timedelta(days=1)) as hasher:
        began = time.perf_counter()
        hashing = (hash_on(hasher, began + seconds) for _ in range(threads))
        failures = [each for each in await asyncio.gather(*hashing, return_exceptions=True) if each is not None]
        elapsed = time.perf_counter() - began
    for failure in failures:
        if not isinstance(failure, HashingOverloaded):
            raise failure
    if failures:
        return None
    return Measurement(parameters=parameters, seconds=statistics.median(taken), per_second=len(taken) / elapsed)


def machine_memory_kib() -> int:
    """Return the memory of this machine, or what the control group (v2 or v1) lets this process have, in KiB."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(name).read_text("ascii")))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(limits) // 1024


def document(tuning: Tuning) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "format": FORMAT,
        "target_ms": tuning.target / timedelta(milliseconds=1),
        "threads": tuning.threads,
        "workers": tuning.workers,
        "memory_mib": _mib(tuning.memory_kib),
        "measurements": [_member(tuning, each) for each in tuning.measurements],
        "proposal": _member(tuning, tuning.proposal),
        "options": options_of(tuning.proposal.parameters),
        "fits": tuning.fits,
    }


def options_of(parameters: Argon2Parameters) -> str:
    """Return a cost as options of `pickguard serve`."""
    return (
        f"--hash-memory {parameters.memory_kib} --hash-time-cost {parameters.time_cost} "
        f"--hash-parallelism {parameters.parallelism}"
    )


def _member(tuning: Tuning, measurement: Measurement) -> dict[str, object]:
    return {
        **attrs.asdict(measurement.parameters),
        "milliseconds": round(measurement.seconds * 1000, 1),
        "per_second": round(measurement.per_second, 1),
        "most_memory_mib": _mib(tuning.most_memory_kib(measurement)),
    }


def _cost(memory_kib: int, time_cost: int, parallelism: int) -> Argon2Parameters:
    return Argon2Parameters(memory_kib=memory_kib, time_cost=time_cost, parallelism=parallelism)


def _passes(measurement: Measurement, target: timedelta) -> int:
    """Return how many passes take as long as the target, if each takes as long as those that were measured."""
    each = measurement.seconds / measurement.parameters.time_cost
    most = min(MOST_TIME_COST, MAX_HASH_WORK_KIB // measurement.parameters.memory_kib)
    return max(LEAST_TIME_COST, min(most, math.floor(target.total_seconds() / each)))


def _mib(kib: int) -> float:
    return round(kib / KIB_PER_MIB, 1)


# For a person.


@contextmanager
def _progress(console: Console, budget: timedelta) -> Generator[Callable[[str], None]]:
    """Show what is being measured, where somebody may be looking."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(TextColumn("Measuring {task.description}"), BarColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=budget.total_seconds())
        began = time.monotonic()
        yield lambda what: bar.update(task, description=what, completed=time.monotonic() - began)


def _print(tuning: Tuning, console: Console) -> None:
    table = Table("Memory", "Passes", "One hash", "Hashes per second", "Memory at most")
    for column in table.columns:
        column.justify = "right"
    for each in tuning.measurements:
        table.add_row(
            f"{_mib(each.parameters.memory_kib):g} MiB",
            str(each.parameters.time_cost),
            f"{each.seconds * 1000:.0f} ms",
            f"{each.per_second:.1f}",
            f"{_mib(tuning.most_memory_kib(each)):g} MiB",
            style="bold green" if each is tuning.proposal else None,
        )
    console.print(
        f"Threads: {tuning.threads}, workers: {tuning.workers}, lanes: {tuning.proposal.parameters.parallelism}. "
        f"One hash may take {show_duration(tuning.target)}, and all at once {_mib(tuning.memory_kib):g} MiB."
    )
    console.print(table)
    if not tuning.fits:
        console.print(
            Text("Even the least that OWASP accepts takes more than it may. It is proposed all the same.", style="yellow")
        )
    console.print("Start the service with")
    console.print(Text(f"  {options_of(tuning.proposal.parameters)}", style="bold"), soft_wrap=True)
