"""Whether two samples of times can be told apart, by methods that assume nothing of how times are distributed."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Final, Self

import attrs

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95
LEAST_P: Final = 0.01
GREATEST_DIFFERENCE_MS: Final = 5.0


@attrs.frozen(kw_only=True)
class Comparison:
    """How a sample differs from another: its median less the other's, the interval of that, and Mann–Whitney's p."""

    difference: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, sample: Sequence[float], other: Sequence[float], random: Random) -> Self:
        low, high = median_difference_interval(sample, other, random)
        return cls(
            difference=statistics.median(sample) - statistics.median(other), low=low, high=high, p=mann_whitney(sample, other)
        )

    @property
    def alike(self) -> bool:
        """Tell whether nobody could make use of the difference, of times in milliseconds."""
        return self.p > LEAST_P and abs(self.difference) < GREATEST_DIFFERENCE_MS


def mann_whitney(sample: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p of the Mann–Whitney U test: how likely samples that differ so much are where nothing differs.

    By the normal approximation, corrected for ties and for continuity, which is good from some twenty values on (Mann and
    Whitney, 1947; Lehmann, *Nonparametrics*, section 1.3). Samples of one value only cannot be told apart: 1.
    """
    n, m = len(sample), len(other)
    counts = Counter((*sample, *other))
    # The ranks that equal values take up are shared out among them: each gets their mean.
    last_ranks = accumulate(counts[value] for value in sorted(counts))
    ranks = {value: last - (counts[value] - 1) / 2 for value, last in zip(sorted(counts), last_ranks, strict=True)}
    u = sum(ranks[value] for value in sample) - n * (n + 1) / 2
    both = n + m
    ties = sum(count**3 - count for count in counts.values()) / (both * (both - 1))
    deviation = math.sqrt(n * m / 12 * (both + 1 - ties))
    if deviation == 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, 0) / deviation
    return math.erfc(z / math.sqrt(2))


def median_difference_interval(
    sample: Sequence[float], other: Sequence[float], random: Random, *, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the bootstrapped interval of the difference of two medians, at `LEVEL`, by its percentiles (Efron, 1979).

    The median of n values drawn from n sorted ones, with replacement, is the one at the place of the median of n uniform
    numbers, and that is beta-distributed: so it is drawn at once, which is exact where n is odd.
    """
    first, second = sorted(sample), sorted(other)

    def median_of_resample(values: Sequence[float]) -> float:
        middle = (len(values) + 1) / 2
        return values[int(random.betavariate(middle, middle) * len(values))]

    differences = sorted(median_of_resample(first) - median_of_resample(second) for _ in range(resamples))
    cut = round(resamples * (1 - LEVEL) / 2)
    return differences[cut], differences[-1 - cut]
