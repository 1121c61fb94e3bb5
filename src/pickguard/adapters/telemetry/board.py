"""Numbers that several processes count in, and any of them can read: what metrics are kept in.

Each worker writes to a part of one piece of memory that all of them share since before they were forked, so whichever of them
is asked knows the sum. To count is one addition to one number in memory, without a lock, a file or a call of the system, and a
worker that takes the place of another goes on counting where that one stopped: no counter ever falls.

prometheus-client has a way of its own for several processes: files that it maps, each with a lock, one more for every process
that ever was. An observation costs it several times as much, and what it shows is stitched together from those files.
"""

import enum
import mmap
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, product
from typing import Final

import attrs

NUMBER_BYTES: Final = 8
Labels = tuple[str, ...]


class Kind(enum.Enum):
    """What can be done with a number."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@attrs.frozen(kw_only=True)
class Family:
    """A metric: its name, what it tells a person, its labels, and every combination of their values that there can be."""

    kind: Kind
    name: str
    help: str
    labels: Labels = ()
    series: tuple[Labels, ...] = ((),)
    bounds: tuple[float, ...] = ()
    """Of a histogram, in ascending order: what is no more than a bound, and more than the one before it, is counted there."""
    sparse: bool = False
    """Whether series in which nothing was counted are left out: there may be very many of them."""

    @property
    def width(self) -> int:
        """How many numbers a series has. A histogram's are its buckets, one more for what is beyond, and the sum."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


@attrs.frozen(kw_only=True)
class Sample:
    """What was counted in one series. A histogram has as many buckets as bounds and one more, each with all before it."""

    family: Family
    labels: Labels
    value: float
    buckets: tuple[float, ...] = ()


def every(*values: Sequence[str]) -> tuple[Labels, ...]:
    """Return every combination of values, one of each label's."""
    return tuple(product(*values))


class Board:
    """The numbers of all workers. Make it before they are forked."""

    def __init__(self, families: Sequence[Family], *, workers: int) -> None:
        self.families = tuple(families)
        self.workers = workers
        self._at: dict[str, int] = {}
        size = 0
        for family in self.families:
            self._at[family.name] = size
            size += family.width * len(family.series)
        self._size = size
        self._numbers: memoryview[float] = memoryview(mmap.mmap(-1, NUMBER_BYTES * size * workers)).cast("d")

    def part(self, worker: int) -> "Part":
        """Return what a worker counts in. Its gauges are those of another that it takes the place of, so they begin anew."""
        numbers = self._numbers[worker * self._size : (worker + 1) * self._size]
        for family in self.families:
            if family.kind is Kind.GAUGE:
                start = self._at[family.name]
                for index in range(start, start + len(family.series)):
                    numbers[index] = 0.0
        return Part(self.families, self._at, numbers)

    def of(self, worker: int, family: str, labels: Labels = ()) -> float:
        """Return one number of one worker."""
        found = next(each for each in self.families if each.name == family)
        return self._numbers[worker * self._size + self._at[family] + found.series.index(labels)]

    def read(self) -> Iterator[Sample]:
        """Return what all workers have counted, together.

        While they count, a sum and a count that belong together may be one observation apart.
        """
        parts = [self._numbers[worker * self._size : (worker + 1) * self._size].tolist() for worker in range(self.workers)]
        totals = parts[0] if len(parts) == 1 else list(map(sum, zip(*parts, strict=True)))
        for family in self.families:
            width = family.width
            for number, labels in enumerate(family.series):
                start = self._at[family.name] + number * width
                if width == 1:
                    if totals[start] or not family.sparse:
                        yield Sample(family=family, labels=labels, value=totals[start])
                    continue
                buckets = tuple(accumulate(totals[start : start + width - 1]))
                if buckets[-1] or not family.sparse:
                    yield Sample(family=family, labels=labels, value=totals[start + width - 1], buckets=buckets)


class Part:
    """The numbers of one worker, which only one thread at a time may write."""

    def __init__(self, families: Sequence[Family], at: Mapping[str, int], numbers: "memoryview[float]") -> None:
        self._families = {family.name: family for family in families}
        self._at = at
        self.numbers = numbers

    def start_of(self, name: str, labels: Labels = ()) -> int:
        """Return where the numbers of a series begin. Raises `KeyError` where there is no such metric, or series."""
        family = self._families[name]
        try:
            return self._at[name] + family.series.index(labels) * family.width
        except ValueError:
            raise KeyError(name, labels) from None

    def counter(self, name: str) -> "Counter":
        """Return what counts in a metric."""
        family = self._families[name]
        starts = {labels: self._at[name] + number for number, labels in enumerate(family.series)}
        return Counter(self.numbers, starts)

    def gauge(self, name: str, labels: Labels = ()) -> "Gauge":
        """Return what shows a number that rises and falls."""
        return Gauge(self.numbers, self.start_of(name, labels))

    def histogram(self, name: str, labels: Labels = ()) -> "Histogram":
        """Return what observes in one series."""
        return Histogram(self.numbers, self.start_of(name, labels), self._families[name].bounds)


class Counter:
    """Counts what happens, by its labels."""

    __slots__ = ("_numbers", "_starts")

    def __init__(self, numbers: "memoryview[float]", starts: Mapping[Labels, int]) -> None:
        self._numbers = numbers
        self._starts = starts

    def count(self, *labels: str) -> None:
        """Count one."""
        self._numbers[self._starts[labels]] += 1.0


class Gauge:
    """Shows how much there is."""

    __slots__ = ("_index", "_numbers")

    def __init__(self, numbers: "memoryview[float]", index: int) -> None:
        self._numbers = numbers
        self._index = index

    def show(self, value: float) -> None:
        """Show this much from now on."""
        self._numbers[self._index] = value


class Histogram:
    """Tells how observations are spread."""

    __slots__ = ("_bounds", "_numbers", "_start", "_sum")

    def __init__(self, numbers: "memoryview[float]", start: int, bounds: tuple[float, ...]) -> None:
        self._numbers = numbers
        self._start = start
        self._bounds = bounds
        self._sum = start + len(bounds) + 1

    def observe(self, value: float) -> None:
        """Note one observation."""
        numbers = self._numbers
        numbers[self._start + bisect_left(self._bounds, value)] += 1.0
        numbers[self._sum] += value
