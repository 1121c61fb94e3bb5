"""Metrics in a test's hand: a board, who counts on it, and what a scrape of it says."""

from collections.abc import Iterable, Sequence

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from pickguard.adapters.telemetry.board import Board
from pickguard.adapters.telemetry.exposition import Exposer
from pickguard.adapters.telemetry.metrics import Metrics, Routes, make_board
from pickguard.entrypoints.http.app import create_app
from pickguard.entrypoints.http.watching import STATUSES, routes_of
from pickguard.entrypoints.settings import Settings

ROUTES = Routes(pairs=routes_of(create_app(Settings(store="memory:", mail="console:"))), statuses=STATUSES)

Sample = tuple[str, frozenset[tuple[str, str]]]


def key(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def parsed(text: str) -> dict[Sample, float]:
    """Return the samples of a scrape in Prometheus' text format."""
    return _samples(text_string_to_metric_families(text))


def parsed_openmetrics(text: str) -> dict[Sample, float]:
    """Return the samples of a scrape in OpenMetrics, whose parser is strict."""
    return _samples(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def _samples(families: Iterable[object]) -> dict[Sample, float]:
    return {
        key(sample.name, **sample.labels): sample.value
        for family in families
        for sample in family.samples  # type: ignore[attr-defined]
    }


class Measured:
    """The metrics of some workers, all in this process."""

    def __init__(self, *, workers: int = 1, routes: Routes = ROUTES) -> None:
        self.routes = routes
        self.board: Board = make_board(routes, workers=workers)
        self.workers: Sequence[Metrics] = [Metrics(self.board.part(worker), routes) for worker in range(workers)]

    @property
    def metrics(self) -> Metrics:
        return self.workers[0]

    def scrape(self) -> dict[Sample, float]:
        return parsed(Exposer(self.board).expose("text/plain").body.decode())

    def value(self, name: str, **labels: str) -> float | None:
        """What a scrape says of one series, or None where it says nothing."""
        return self.scrape().get(key(name, **labels))
