"""What the workers have counted, as Prometheus reads it."""

import platform
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pickguard.adapters.telemetry.board import Board, Family, Kind

_PID = "pickguard_worker_pid"
_VERSION: Final = re.compile(r"version=(.*)", re.DOTALL)
_VERSIONS: Final = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)
"""What versions of the formats look like: 0.0.4 and 1.0.0, for instance."""


@attrs.frozen(kw_only=True)
class Exposition:
    """One answer to a scrape."""

    content_type: str
    body: bytes


class BoardCollector(Collector):
    """Reads a board, and what the system knows of the processes that write to it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._build = GaugeMetricFamily(
            "pickguard_build_info", "The version that is running; always 1.", labels=("version", "python", "implementation")
        )
        self._build.add_metric((version("pickguard"), platform.python_version(), platform.python_implementation()), 1.0)

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        yield self._build
        workers = GaugeMetricFamily("pickguard_workers", "Processes that serve requests.")
        running = list(self._processes())
        workers.add_metric((), len(running))
        yield workers
        yield from _of_workers(running)
        metrics = {family.name: _metric(family) for family in self._board.families if family.name != _PID}
        for sample in self._board.read():
            metric = metrics.get(sample.family.name)
            if isinstance(metric, HistogramMetricFamily):
                bounds = (*map(str, sample.family.bounds), "+Inf")
                metric.add_metric(sample.labels, list(zip(bounds, sample.buckets, strict=True)), sample.value)
            elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
                metric.add_metric(sample.labels, sample.value)
        yield from metrics.values()

    def _processes(self) -> Iterator[tuple[str, list[Metric]]]:
        """Return what the system says of each worker that runs."""
        for worker in range(self._board.workers):
            pid = int(self._board.of(worker, _PID))
            if pid:
                found = list(ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect())  # type: ignore[misc]
                if found:
                    yield str(worker), found


def _of_workers(running: list[tuple[str, list[Metric]]]) -> Iterator[Metric]:
    """Return each metric of processes once, with a label that tells the workers apart."""
    made: dict[str, Metric] = {}
    for worker, metrics in running:
        for metric in metrics:
            known = made.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                known.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    yield from made.values()


def _metric(family: Family) -> Metric:
    if family.kind is Kind.COUNTER:
        return CounterMetricFamily(family.name, family.help, labels=family.labels)
    if family.kind is Kind.GAUGE:
        return GaugeMetricFamily(family.name, family.help, labels=family.labels)
    return HistogramMetricFamily(family.name, family.help, labels=family.labels)


class Exposer:
    """Writes metrics in the format that a scraper asks for: Prometheus' text format, or OpenMetrics."""

    def __init__(self, board: Board) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(BoardCollector(board))

    def expose(self, accept: str) -> Exposition:
        """Return all metrics. `accept` is what the scraper says that it reads (RFC 9110, section 12.5.1)."""
        encode, content_type = choose_encoder(_readable(accept))
        return Exposition(content_type=content_type, body=encode(self._registry))


def _readable(accept: str) -> str:
    """Return what there is in an Accept header without the formats whose version is none.

    prometheus-client raises `TypeError` for most of these, and says the others again in the header of the answer.
    """
    return ",".join(each for each in accept.split(",") if all(map(_is_readable, each.split(";"))))


def _is_readable(parameter: str) -> bool:
    match = _VERSION.fullmatch(parameter.strip())
    return match is None or _VERSIONS.fullmatch(match[1]) is not None
