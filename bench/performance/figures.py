"""Runs, rounds of them, and the figures that they come to."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Self

import attrs

QUIET: Final = 0.12
"""A run counts as quiet while others take less than this many cores."""

Run = Mapping[str, float]
"""What one run of one variant gave, by name. `foreign` is how many cores others took meanwhile."""


@attrs.frozen
class Figure:
    """The median of several runs, with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        values = list(values)
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def times(self, factor: float) -> "Figure":
        return Figure(median=factor * self.median, low=factor * self.low, high=factor * self.high)

    def shown(self, digits: int) -> str:
        """Return it for a person: the median, then least and greatest in parentheses."""
        median, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return median if low == high else f"{median} ({low}–{high})"


@attrs.frozen(kw_only=True)
class Step:
    """What was measured together: rounds in which each variant had its turn, one after the other."""

    taken: str
    wanted: int
    rounds: Sequence[Mapping[str, Run]]

    @classmethod
    def now(cls, wanted: int, rounds: Sequence[Mapping[str, Run]]) -> Self:
        return cls(taken=datetime.now(UTC).isoformat(timespec="seconds"), wanted=wanted, rounds=tuple(rounds))

    @property
    def kept(self) -> Sequence[Mapping[str, Run]]:
        """The quietest rounds, as many as were wanted."""
        return sorted(self.rounds, key=loudness)[: self.wanted]

    @property
    def variants(self) -> Sequence[str]:
        return list(self.rounds[0])

    def figure(self, variant: str, name: str) -> Figure:
        return Figure.of(each[variant][name] for each in self.kept)

    def ratio(self, name: str, variant: str, other: str) -> Figure:
        """Return how a variant stands to another: the ratio of their medians, and the extremes of the rounds' ratios."""
        rounds = [each[variant][name] / each[other][name] for each in self.kept]
        return Figure(
            median=self.figure(variant, name).median / self.figure(other, name).median, low=min(rounds), high=max(rounds)
        )

    @property
    def foreign(self) -> Figure:
        return Figure.of(run["foreign"] for each in self.kept for run in each.values())


def loudness(round_: Mapping[str, Run]) -> float:
    """Return how many cores others took in the loudest run of a round."""
    return max(run["foreign"] for run in round_.values())
