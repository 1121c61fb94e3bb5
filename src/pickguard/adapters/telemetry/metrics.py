"""What is measured, by the names that Prometheus knows it by, and those who measure it.

Every label has a bounded set of values that is known when the service starts. None holds anything of a user, an address or a
request but its method, its route and its status.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from pickguard.adapters.telemetry.board import Board, Counter, Family, Histogram, Kind, Labels, Part, every
from pickguard.adapters.telemetry.observing import Call, operations_of
from pickguard.domain.model.errors import AccountsError, NotReplicated, OutcomeUnknown, StoreUnavailable
from pickguard.domain.model.events import (
    Event,
    LimitReached,
    LogInRefused,
    SessionEnd,
    SessionEnded,
    SessionOpened,
    UserRegistered,
)
from pickguard.domain.model.limits import Limit
from pickguard.domain.model.mail import Mail, Notice, TokenMail
from pickguard.ports.accounts import AccountRepository
from pickguard.ports.directory import AccountDirectory
from pickguard.ports.events import EventPublisher
from pickguard.ports.hashing import Purpose
from pickguard.ports.limits import RateLimiter
from pickguard.ports.receipts import Receipts

OTHER: Final = "other"
UNMATCHED: Final = "unmatched"
"""The route of what no route is for."""

REQUEST_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""In seconds, from a read of one's own account to the time that a request may take."""
STORE_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
HASH_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
WAIT_BOUNDS: Final = (0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

STORE_PORTS: Final[Mapping[str, object]] = {
    "accounts": AccountRepository,
    "directory": AccountDirectory,
    "limits": RateLimiter,
    "receipts": Receipts,
}
"""What is asked of the store, by the first part of the label `operation`."""
_STORE_ERRORS: Final = {
    NotReplicated: "not_replicated",
    OutcomeUnknown: "outcome_unknown",
    StoreUnavailable: "unavailable",
}
_CANCELLED: Final = "cancelled"
MAIL_OUTCOMES: Final = ("sent", "given_up", "expired", "superseded", "dropped", "failed", "lost")
SUCCESS: Final = "success"
FAILURE: Final = "failure"
ALLOWED: Final = "allowed"
UNAUTHENTICATED: Final = "unauthenticated"


@attrs.frozen(kw_only=True)
class Routes:
    """What requests are told apart by: each method with each path it has a route for, and the statuses that there are."""

    pairs: Sequence[tuple[str, str]]
    statuses: Sequence[int]

    @property
    def known(self) -> tuple[Labels, ...]:
        """All pairs of method and route that requests are counted under."""
        methods = sorted({method for method, _ in self.pairs if method != "*"} | {"OPTIONS"})
        paths = dict.fromkeys(path for _, path in self.pairs)
        known = dict.fromkeys((method, path) for method, path in self.pairs if method != "*")
        for path in paths:
            known[OTHER, path] = None
        for method in (*methods, OTHER):
            known[method, UNMATCHED] = None
        return tuple(known)

    @property
    def shown_statuses(self) -> tuple[str, ...]:
        """The values of the label `status`."""
        return (*(str(status) for status in sorted(set(self.statuses))), OTHER)


def families(routes: Routes) -> tuple[Family, ...]:
    """Return all metrics of a service with these routes."""
    purposes = every([purpose.value for purpose in Purpose])
    operations = every([f"{name}.{operation}" for name, port in STORE_PORTS.items() for operation in operations_of(port)])
    mails = [name for name in names_of(Mail) if name not in {Notice.__name__, TokenMail.__name__}]
    return (
        _sparse(
            Kind.COUNTER,
            "pickguard_http_requests_total",
            "Requests that were answered.",
            labels=("method", "route", "status"),
            series=tuple((*pair, status) for pair in routes.known for status in routes.shown_statuses),
        ),
        _sparse(
            Kind.HISTOGRAM,
            "pickguard_http_request_duration_seconds",
            "Time that requests took, without what their clients took to send a body or to read the answer.",
            labels=("method", "route"),
            series=routes.known,
            bounds=REQUEST_BOUNDS,
        ),
        _gauge("connections_open", "Connections of clients that are open or shaking hands."),
        _gauge("hash_queue_depth", "Passwords that wait for their turn to be hashed."),
        _gauge("hash_threads", "Passwords that may be hashed at once."),
        _histogram("hash_wait", "Time that passwords waited for their turn to be hashed.", WAIT_BOUNDS, "purpose", purposes),
        _histogram("hash_duration", "Time that hashing a password took.", HASH_BOUNDS, "purpose", purposes),
        _counter("hash_refused", "Passwords that were not hashed because the wait was too long.", "purpose", purposes),
        _sparse(
            Kind.HISTOGRAM,
            "pickguard_store_operation_duration_seconds",
            "Time that the store took for what was asked of it, with all of its commands together.",
            labels=("operation",),
            series=operations,
            bounds=STORE_BOUNDS,
        ),
        _counter(
            "store_errors",
            "What the store did not do as asked.",
            "kind",
            every([*_STORE_ERRORS.values(), _CANCELLED, OTHER]),
        ),
        _counter("events", "What happened to accounts, by the names in the log.", "event", every(names_of(Event))),
        _counter("registrations", "Accounts that were made by their users."),
        _counter("log_ins", "Log-ins that succeeded or were refused.", "outcome", every([SUCCESS, FAILURE])),
        _counter("sessions_opened", "Sessions that were opened."),
        _counter("sessions_ended", "Sessions that ended, and why.", "reason", every([each.value for each in SessionEnd])),
        _counter(
            "limits_hit", "What was refused because it was tried too often.", "limit", every([each.value for each in Limit])
        ),
        Family(
            kind=Kind.COUNTER,
            name="pickguard_mails_total",
            help="Mails that were sent, or will not be, and why.",
            labels=("kind", "outcome"),
            series=every(mails, MAIL_OUTCOMES),
        ),
        _gauge("mails_waiting", "Mails that are to be sent."),
        _counter(
            "admin_requests", "Requests to the listener for administration.", "outcome", every([ALLOWED, UNAUTHENTICATED])
        ),
        _gauge("worker_pid", "The process of a worker."),
    )


def _sparse(
    kind: Kind, name: str, text: str, *, labels: Labels, series: tuple[Labels, ...], bounds: tuple[float, ...] = ()
) -> Family:
    return Family(kind=kind, name=name, help=text, labels=labels, series=series, bounds=bounds, sparse=True)


def _counter(name: str, text: str, label: str | None = None, series: tuple[Labels, ...] = ((),)) -> Family:
    labels = (label,) if label else ()
    return Family(kind=Kind.COUNTER, name=f"pickguard_{name}_total", help=text, labels=labels, series=series)


def _gauge(name: str, text: str) -> Family:
    return Family(kind=Kind.GAUGE, name=f"pickguard_{name}", help=text)


def _histogram(name: str, text: str, bounds: tuple[float, ...], label: str, series: tuple[Labels, ...]) -> Family:
    return Family(
        kind=Kind.HISTOGRAM, name=f"pickguard_{name}_seconds", help=text, bounds=bounds, labels=(label,), series=series
    )


def names_of(kind: type) -> tuple[str, ...]:
    """Return the names of all kinds of something."""
    subclasses: list[type] = kind.__subclasses__()
    found: dict[str, None] = {}
    for each in subclasses:
        found[each.__name__] = None
        found |= dict.fromkeys(names_of(each))
    return tuple(found)


class Metrics:
    """What one worker measures. Everything but what is said of it is called in the event loop's thread."""

    def __init__(self, part: Part, routes: Routes) -> None:
        self._part = part
        self.requests = RequestMetrics(part, routes)
        self.store = StoreMetrics(part)
        self.hashing = HashMetrics(part)
        self.mail = MailMetrics(part)
        self._connections = part.gauge("pickguard_connections_open")
        self._admin = part.counter("pickguard_admin_requests_total")

    def counted(self, events: EventPublisher) -> EventPublisher:
        """Return what counts events and passes them on."""
        return CountedEvents(events, self._part)

    def connections(self, count: int) -> None:
        """Note how many connections there are."""
        self._connections.show(count)

    def admin_request(self, *, authenticated: bool) -> None:
        """Count a request to the listener for administration."""
        self._admin.count(ALLOWED if authenticated else UNAUTHENTICATED)

    def is_run_by(self, pid: int) -> None:
        """Note which process measures."""
        self._part.gauge("pickguard_worker_pid").show(pid)


class RequestMetrics:
    """Counts requests and their times."""

    def __init__(self, part: Part, routes: Routes) -> None:
        statuses = routes.shown_statuses
        self._statuses = {int(status): number for number, status in enumerate(statuses) if status != OTHER}
        self._other_status = len(statuses) - 1
        self._numbers = part.numbers
        counts, times = "pickguard_http_requests_total", "pickguard_http_request_duration_seconds"
        first = part.start_of(counts, (*routes.known[0], statuses[0]))
        self._pairs: dict[Labels, tuple[int, Histogram]] = {
            pair: (first + number * len(statuses), part.histogram(times, pair)) for number, pair in enumerate(routes.known)
        }

    def answered(self, method: str, route: str | None, status: int, seconds: float | None) -> None:
        """Count one request. `route` is None where there is none for it, and `seconds` where it was not looked at at all."""
        start, times = self._pairs.get((method, route)) or self._other(method, route)  # type: ignore[arg-type]
        self._numbers[start + self._statuses.get(status, self._other_status)] += 1.0
        if seconds is not None:
            times.observe(seconds)

    def _other(self, method: str, route: str | None) -> tuple[int, Histogram]:
        if route is None or (OTHER, route) not in self._pairs:
            return self._pairs.get((method, UNMATCHED)) or self._pairs[OTHER, UNMATCHED]
        return self._pairs[OTHER, route]


class StoreMetrics:
    """Times what is asked of the store, and counts what it does not do."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._errors = part.counter("pickguard_store_errors_total")

    def port(self, name: str) -> "_StoreWatch":
        """Return what watches the calls of one port, by its name in `STORE_PORTS`."""
        return _StoreWatch(self._part, self._errors, name)


class _StoreWatch:
    def __init__(self, part: Part, errors: Counter, port: str) -> None:
        self._part = part
        self._errors = errors
        self._port = port

    def around(self, operation: str, call: Call) -> Call:
        """See `Watch.around`."""
        observe = self._part.histogram("pickguard_store_operation_duration_seconds", (f"{self._port}.{operation}",)).observe
        note, now = self._note, time.perf_counter

        async def timed(*args: Any, **kwargs: Any) -> Any:
            began = now()
            try:
                return await call(*args, **kwargs)
            except BaseException as error:
                note(error)
                raise
            finally:
                observe(now() - began)

        return timed

    def _note(self, error: BaseException) -> None:
        for known, name in _STORE_ERRORS.items():
            if isinstance(error, known):
                self._errors.count(name)
                return
        if not isinstance(error, Exception):
            self._errors.count(_CANCELLED)
        elif not isinstance(error, AccountsError):  # those that are left are answers: a conflict, an address that is taken
            self._errors.count(OTHER)


class HashMetrics:
    """Tells how long passwords wait for their turn, and how long they take."""

    def __init__(self, part: Part) -> None:
        self._waits, self._times = (
            {purpose: part.histogram(f"pickguard_hash_{name}_seconds", (purpose.value,)) for purpose in Purpose}
            for name in ("wait", "duration")
        )
        self._refused = part.counter("pickguard_hash_refused_total")
        self._depth = part.gauge("pickguard_hash_queue_depth")
        self._threads = part.gauge("pickguard_hash_threads")

    def threads(self, count: int) -> None:
        """Note how many may be hashed at once."""
        self._threads.show(count)

    def waiting(self, count: int) -> None:
        """Note how many wait. Called in any thread, one at a time."""
        self._depth.show(count)

    def hashed(self, purpose: Purpose, *, waited: float, took: float) -> None:
        """Note one that was hashed."""
        self._waits[purpose].observe(waited)
        self._times[purpose].observe(took)

    def refused(self, purpose: Purpose) -> None:
        """Note one that was not hashed."""
        self._refused.count(purpose.value)


class MailMetrics:
    """Counts mails."""

    def __init__(self, part: Part) -> None:
        self._mails = part.counter("pickguard_mails_total")
        self._waiting = part.gauge("pickguard_mails_waiting")

    def ended(self, kind: str, outcome: str) -> None:
        """Note that nothing is left to be done about a mail."""
        self._mails.count(kind, outcome)

    def waiting(self, count: int) -> None:
        """Note how many are to be sent."""
        self._waiting.show(count)


class CountedEvents:
    """An `EventPublisher` that counts what it passes on."""

    def __init__(self, events: EventPublisher, part: Part) -> None:
        self._events = events
        self._all = part.counter("pickguard_events_total")
        self._registrations = part.counter("pickguard_registrations_total")
        self._log_ins = part.counter("pickguard_log_ins_total")
        self._opened = part.counter("pickguard_sessions_opened_total")
        self._ended = part.counter("pickguard_sessions_ended_total")
        self._limits = part.counter("pickguard_limits_hit_total")

    def publish(self, event: Event) -> None:
        """See `EventPublisher.publish`."""
        self._all.count(type(event).__name__)
        match event:
            case SessionOpened():
                self._opened.count()
                self._log_ins.count(SUCCESS)
            case LogInRefused():
                self._log_ins.count(FAILURE)
            case SessionEnded():
                self._ended.count(event.reason.value)
            case LimitReached():
                self._limits.count(event.limit.value)
            case UserRegistered():
                self._registrations.count()
        self._events.publish(event)


def make_board(routes: Routes, *, workers: int) -> Board:
    """Return where the workers of a service with these routes count."""
    return Board(families(routes), workers=workers)
