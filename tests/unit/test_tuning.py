"""Which cost is proposed, on machines whose speed and memory a test makes up."""

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pickguard.entrypoints import tuning
from pickguard.entrypoints.bootstrap import Argon2Parameters
from pickguard.entrypoints.settings import Settings
from pickguard.entrypoints.tuning import (
    KIB_PER_MIB,
    LEAST_MEASURED,
    LEAST_MEMORY_KIB,
    LEAST_TIME_COST,
    MEMORIES_KIB,
    Measurement,
    Tuning,
    TuningError,
    document,
    machine_memory_kib,
    measure_hashes,
    options_of,
    propose,
)
from tests.support.strategies import examples


class Machine:
    """Hashes in a time that is proportional to the work, on a clock of its own."""

    def __init__(self, *, seconds_per_gib: float, memory_kib: int = 2**30, overhead: float = 1.0) -> None:
        self.now = 1000.0
        self.memory_kib = memory_kib
        self.measured: list[Argon2Parameters] = []
        self._seconds_per_kib = seconds_per_gib / 2**20
        self._overhead = overhead
        """What more than the least passes cost beyond their share."""

    def measure(self, parameters: Argon2Parameters, seconds: float) -> Measurement | None:
        self.measured.append(parameters)
        each = parameters.memory_kib * parameters.time_cost * self._seconds_per_kib
        if parameters.time_cost > LEAST_TIME_COST:
            each *= self._overhead
        if parameters.memory_kib > self.memory_kib:
            return None
        self.now += max(seconds, each)
        return Measurement(parameters=parameters, seconds=each, per_second=1 / each)

    def propose(
        self, *, target: float = 0.1, threads: int = 2, workers: int = 1, memory_mib: int = 4096, budget: float = 10
    ) -> Tuning:
        return propose(
            self.measure,
            target=timedelta(seconds=target),
            threads=threads,
            workers=workers,
            parallelism=1,
            memory_kib=memory_mib * KIB_PER_MIB,
            budget=timedelta(seconds=budget),
            now=lambda: self.now,
        )


def test_the_most_memory_within_the_time_comes_first_and_passes_fill_the_rest() -> None:
    tuned = Machine(seconds_per_gib=0.5).propose()
    assert tuned.fits
    assert tuned.proposal.parameters == Argon2Parameters(memory_kib=98_304, time_cost=2)
    tuned = Machine(seconds_per_gib=0.5).propose(target=0.14)
    assert tuned.proposal.parameters == Argon2Parameters(memory_kib=131_072, time_cost=2)
    tuned = Machine(seconds_per_gib=0.4).propose(target=0.149)
    assert tuned.proposal.parameters == Argon2Parameters(memory_kib=131_072, time_cost=2)
    tuned = Machine(seconds_per_gib=0.4).propose(target=0.31, memory_mib=256)
    assert tuned.proposal.parameters == Argon2Parameters(memory_kib=131_072, time_cost=6)
    assert tuned.fits


def test_a_machine_that_is_too_slow_gets_the_least_that_is_acceptable() -> None:
    tuned = Machine(seconds_per_gib=10).propose()
    assert not tuned.fits
    assert tuned.proposal.parameters == Argon2Parameters(memory_kib=LEAST_MEMORY_KIB, time_cost=LEAST_TIME_COST)
    assert len(tuned.measurements) == LEAST_MEASURED


def test_a_machine_with_little_memory_gets_the_least_and_is_told() -> None:
    tuned = Machine(seconds_per_gib=0.5).propose(threads=8, workers=4, memory_mib=100)
    assert tuned.proposal.parameters.memory_kib == LEAST_MEMORY_KIB
    assert tuned.most_memory_kib(tuned.proposal) == 32 * LEAST_MEMORY_KIB
    assert not tuned.fits


def test_memory_that_cannot_be_had_ends_the_climb() -> None:
    tuned = Machine(seconds_per_gib=0.1, memory_kib=70_000).propose()
    assert tuned.proposal.parameters.memory_kib == 65_536
    with pytest.raises(TuningError, match="--hash-threads"):
        Machine(seconds_per_gib=0.1, memory_kib=1000).propose()


def test_a_proposal_that_proves_too_slow_is_made_cheaper() -> None:
    machine = Machine(seconds_per_gib=0.4, overhead=1.5)
    tuned = machine.propose(target=0.31, memory_mib=256)
    assert tuned.proposal.parameters == Argon2Parameters(memory_kib=131_072, time_cost=4)
    assert tuned.fits
    assert [each.time_cost for each in machine.measured if each.time_cost > LEAST_TIME_COST] == [6, 4]


def test_a_cost_for_which_there_is_no_time_is_not_measured() -> None:
    machine = Machine(seconds_per_gib=20)
    began = machine.now
    tuned = machine.propose(target=10, budget=3)
    assert machine.now - began <= 3 + 1
    assert tuned.measurements


@examples(60)
@given(
    seconds_per_gib=st.floats(0.01, 50),
    overhead=st.floats(0.5, 2),
    target=st.floats(0.001, 10),
    budget=st.floats(0.01, 60),
    threads=st.integers(1, 64),
    memory_mib=st.integers(1, 100_000),
)
def test_a_proposal_is_measured_acceptable_and_within_what_it_may_take(
    *, seconds_per_gib: float, overhead: float, target: float, budget: float, threads: int, memory_mib: int
) -> None:
    machine = Machine(seconds_per_gib=seconds_per_gib, overhead=overhead)
    tuned = machine.propose(target=target, budget=budget, threads=threads, memory_mib=memory_mib)
    assert tuned.proposal in tuned.measurements
    assert tuned.fits or tuned.proposal.parameters.memory_kib == LEAST_MEMORY_KIB
    assert tuned.proposal.seconds <= target or tuned.proposal.parameters == Argon2Parameters()
    words = options_of(tuned.proposal.parameters).split()
    given_ = {flag.removeprefix("--").replace("-", "_"): text for flag, text in zip(words[::2], words[1::2], strict=True)}
    settings = Settings.load(given_, {})  # which accepts nothing below OWASP's minimum
    assert settings.hash_memory == tuned.proposal.parameters.memory_kib
    assert json.loads(json.dumps(document(tuned)))["fits"] == tuned.fits


def test_the_sizes_go_up_from_the_least() -> None:
    assert MEMORIES_KIB[0] == LEAST_MEMORY_KIB == Settings().hash_memory
    assert list(MEMORIES_KIB) == sorted(set(MEMORIES_KIB))


async def test_all_threads_hash_at_once_and_each_at_least_once() -> None:
    measured = await measure_hashes(Argon2Parameters(memory_kib=8, time_cost=1), threads=3, seconds=0)
    assert measured is not None
    assert measured.seconds > 0
    assert measured.per_second > 0


async def test_memory_that_cannot_be_had_is_told_apart_from_other_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    import argon2  # noqa: PLC0415 (to break it)

    def no_memory(*_: object) -> str:
        raise argon2.exceptions.HashingError("Memory allocation error")

    def broken(*_: object) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr(argon2.PasswordHasher, "hash", no_memory)
    assert await measure_hashes(Argon2Parameters(), threads=2, seconds=0) is None
    monkeypatch.setattr(argon2.PasswordHasher, "hash", broken)
    with pytest.raises(RuntimeError, match="broken"):
        await measure_hashes(Argon2Parameters(), threads=2, seconds=0)


def test_a_control_group_may_allow_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(tuning, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "nothing")))
    whole = machine_memory_kib()
    assert whole > 0
    limit.write_text("max\n")
    assert machine_memory_kib() == whole
    limit.write_text(f"{64 * 1024 * 1024}\n")
    assert machine_memory_kib() == 65_536


def test_where_somebody_looks_on_it_says_what_it_measures() -> None:
    screen = io.StringIO()
    with tuning._progress(Console(file=screen, force_terminal=True, width=80), timedelta(seconds=1)) as advance:
        advance("19 MiB, 2 passes")
    assert "19 MiB, 2 passes" in screen.getvalue()
    nobody = io.StringIO()
    with tuning._progress(Console(file=nobody), timedelta(seconds=1)) as advance:
        advance("19 MiB, 2 passes")
    assert nobody.getvalue() == ""
