"""How often `make bench` lets each variant have its turn."""

import itertools
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from bench.performance.figures import Run
from bench.performance.stage import Pace, Stage

HASTE = Pace(rounds=2, patience=0)


def foreign(*cores: float) -> Callable[[], Run]:
    """Return a measurement during which others take these cores: the last of them from then on."""
    taken = itertools.chain(cores, itertools.repeat(cores[-1]))
    return lambda: {"foreign": next(taken)}


@pytest.mark.parametrize(
    ("first", "second", "rounds"),
    [
        ([0.0], [0.0], 2),
        ([0.5, 0.0], [0.0], 3),
        ([0.5, 0.0], [0.0, 0.5, 0.0], 4),
    ],
)
def test_rounds_are_repeated_until_as_many_as_wanted_were_quiet(
    tmp_path: Path, first: list[float], second: list[float], rounds: int
) -> None:
    variants = {"first": foreign(*first), "second": foreign(*second)}
    step = Stage(HASTE, tmp_path).rounds("a step", 2, variants, lambda _: "")
    assert len(step.rounds) == rounds
    assert step.foreign.high == 0
    assert step.variants == ["first", "second"]


def test_where_there_is_no_time_the_loud_rounds_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(attrs.evolve(HASTE, repeating_seconds=0), tmp_path)
    step = stage.rounds("a step", 2, {"first": foreign(0.7, 0.9)}, lambda _: "fast")
    assert [each["first"]["foreign"] for each in step.kept] == [0.7, 0.9]
    assert "a step, round 1: first: fast, others took 0.70 cores" in capsys.readouterr().err
