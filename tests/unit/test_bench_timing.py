"""What is said of times: when they can be told apart, and how far their medians are from each other."""

import itertools
import math
import statistics
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.comparison import Comparison, mann_whitney, median_difference_interval
from bench.timing import QUESTIONS, Question, Request, Scene, judged, shown, tell_apart
from tests.support.strategies import examples

MALES, FEMALES = [19, 22, 16, 29, 24], [20, 11, 17, 12]
few_values = st.lists(st.integers(0, 4).map(float), min_size=2, max_size=5)


def test_p_is_the_one_that_others_compute() -> None:
    # SciPy's documentation of mannwhitneyu has this example, with the method "asymptotic".
    assert mann_whitney(MALES, FEMALES) == pytest.approx(0.11134688653314041, rel=1e-12)


def exact_mean_and_variance(values: Sequence[float], size: int) -> tuple[float, float]:
    """Return what U has over every way to choose so many of the values: how it is distributed where nothing differs."""
    found = []
    for chosen in itertools.combinations(range(len(values)), size):
        sample = [values[place] for place in chosen]
        rest = [value for place, value in enumerate(values) if place not in chosen]
        found.append(sum((one > other) + (one == other) / 2 for one in sample for other in rest))
    return statistics.mean(found), statistics.pvariance(found)


@given(sample=few_values, other=few_values)
@examples(60)
def test_with_ties_p_is_that_of_a_normal_with_the_exact_mean_and_variance(sample: list[float], other: list[float]) -> None:
    mean, variance = exact_mean_and_variance([*sample, *other], len(sample))
    u = sum((one > that) + (one == that) / 2 for one in sample for that in other)
    z = max(abs(u - mean) - 0.5, 0) / math.sqrt(variance) if variance else 0.0
    assert mann_whitney(sample, other) == pytest.approx(math.erfc(z / math.sqrt(2)))


@given(sample=few_values, other=few_values)
@examples(60)
def test_p_depends_on_the_order_of_values_alone_and_not_on_who_comes_first(sample: list[float], other: list[float]) -> None:
    p = mann_whitney(sample, other)
    assert 0 <= p <= 1
    assert mann_whitney(other, sample) == pytest.approx(p)
    assert mann_whitney([3**value for value in sample], [3**value for value in other]) == pytest.approx(p)


def times(random: Random, count: int = 2000, *, later: float = 0) -> list[float]:
    """Return times as a busy machine has them: skewed, with outliers."""
    return [20 + later + random.lognormvariate(0, 1) + (200 if random.random() < 0.01 else 0) for _ in range(count)]


def test_what_does_not_differ_is_told_apart_as_seldom_as_p_says() -> None:
    random = Random(1)
    found = [mann_whitney(times(random, 200), times(random, 200)) for _ in range(400)]
    # 0.05 of 400 are 20, give or take three standard deviations of a binomial.
    assert 20 - 13 < sum(p < 0.05 for p in found) < 20 + 13


def test_a_fifth_of_a_millisecond_is_found_behind_noise_of_ten_times_as_much() -> None:
    random = Random(1)
    found = Comparison.of(times(random, later=0.2), times(random), random)
    assert found.p < 0.001
    assert not found.alike
    assert 0 < found.low < found.difference < found.high


def test_a_great_difference_is_one_however_sure_it_is() -> None:
    assert not Comparison(difference=5.1, low=-1, high=11, p=0.5).alike
    assert not Comparison(difference=-5.1, low=-11, high=1, p=0.5).alike
    assert Comparison(difference=4.9, low=-1, high=11, p=0.011).alike
    assert not Comparison(difference=0, low=0, high=0, p=0.009).alike


def test_the_interval_is_that_of_drawing_again() -> None:
    random = Random(1)
    sample, other = times(random, 151), times(random, 151, later=1)
    drawn = sorted(
        statistics.median(random.choices(sample, k=151)) - statistics.median(random.choices(other, k=151)) for _ in range(4000)
    )
    low, high = median_difference_interval(sample, other, random)
    assert low == pytest.approx(drawn[100], abs=0.06)
    assert high == pytest.approx(drawn[-101], abs=0.06)


def test_the_interval_holds_the_difference_as_often_as_it_says() -> None:
    random = Random(1)
    held = 0
    for _ in range(60):
        low, high = median_difference_interval(times(random, 101, later=1), times(random, 101), random, resamples=1000)
        held += low < 1 < high
    assert held >= 52  # of 57 to be expected


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_compares_something(name: str) -> None:
    assert len(QUESTIONS[name].cases) >= 2


def test_what_was_measured_is_shown_beside_the_first_case() -> None:
    random = Random(1)
    question = Question(title="A question", cases={"one": _never, "other": _never, "late": _never})
    taken = {"one": times(random), "other": times(random), "late": times(random, later=3)}
    found = judged(question, taken, random)
    assert ["compared" in each for each in found["variants"]] == [False, True, True]
    assert [each["compared"]["alike"] for each in found["variants"][1:]] == [True, False]
    assert tell_apart([found]) == ["A question"]
    assert tell_apart([{**found, "variants": found["variants"][:2]}]) == []
    lines = shown([found]).splitlines()
    assert "A question: late" in lines[-1]
    assert "CAN BE TOLD APART" in lines[-1]


def _never(_: Scene) -> Request:
    raise AssertionError
