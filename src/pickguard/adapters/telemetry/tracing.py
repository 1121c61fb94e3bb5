"""Traces by OpenTelemetry: a span for each request, and one within it for everything asked of the store and of the hasher.

A span has the method, the route and the status of a request and its id, and the names of operations. It has no path, no query,
no header, no address and no message of an error: any of these may hold what somebody keeps secret.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pickguard.adapters.telemetry.observing import Call
from pickguard.domain.model.errors import AccountsError, Unavailable

PARENT_HEADER: Final = "traceparent"
"""Where a caller says within which span it asks (W3C Trace Context). The `tracestate` beside it is not looked at: it may hold
anything, which would be in the span, and what is wrong with it the library writes into the log, as often as anybody likes."""
LONGEST_PARENT: Final = 256
"""The library writes a line into the log for each that is beyond 512; what is known today has 55 characters."""
_SERVICE_NAME: Final = "service.name"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def make_provider(processor: SpanProcessor | None = None) -> TracerProvider:
    """Return what makes spans, and hands them to a processor.

    Without one it sends them to an OTLP collector, as the variables of OpenTelemetry say. Call it in the process that is to
    send: it starts a thread.
    """
    attributes: dict[str, str | int] = {"service.version": version("pickguard"), "process.pid": os.getpid()}
    if not _is_named():
        attributes[_SERVICE_NAME] = "pickguard"
    provider = TracerProvider(resource=Resource.create({**attributes}), shutdown_on_exit=False)
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _is_named() -> bool:
    """Tell whether the operator has given the service a name for its traces."""
    return bool(os.environ.get("OTEL_SERVICE_NAME")) or f"{_SERVICE_NAME}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")


class Tracing:
    """Traces what one worker does."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("pickguard", version("pickguard"))
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, route: str | None, headers: Mapping[str, str], request_id: str) -> Generator["RequestSpan"]:
        """Trace one request, within its caller's span if it names one. `route` is None where there is none for it."""
        method = method if method in _METHODS else "_OTHER"  # as the semantic conventions call it: a client's word may be any
        attributes = {"http.request.method": method, "pickguard.request_id": request_id}
        if route is not None:
            attributes["http.route"] = route
        name = method if route is None else f"{method} {route}"
        given = headers.get(PARENT_HEADER, "")
        parent = self._propagator.extract({PARENT_HEADER: given} if len(given) <= LONGEST_PARENT else {})
        with self._start(name, SpanKind.SERVER, attributes, parent) as span:
            yield RequestSpan(span)

    def store(self, port: str, system: str) -> "_SpanWatch":
        """Return what traces the calls of a port of the store, which is a `system` by OpenTelemetry's names."""

        def begin(operation: str) -> AbstractContextManager[Span]:
            name = f"{port}.{operation}"
            return self._start(name, SpanKind.CLIENT, {"db.system.name": system, "db.operation.name": name})

        return _SpanWatch(begin)

    def hashing(self) -> "_SpanWatch":
        """Return what traces the hashing of passwords, the wait for a turn included."""
        return _SpanWatch(lambda operation: self._start(f"password.{operation}", SpanKind.INTERNAL, {}))

    async def close(self, within: timedelta) -> None:
        """Send what was not sent yet, for as long as that may take."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(done.set)

        # Not one of the loop's own threads, for which it would wait at its end.
        threading.Thread(target=shut_down, daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), within.total_seconds())

    def _start(
        self, name: str, kind: SpanKind, attributes: Mapping[str, str], parent: Context | None = None
    ) -> AbstractContextManager[Span]:
        # What an error says is not to be seen: it may quote what somebody sent.
        return self._tracer.start_as_current_span(
            name, context=parent, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        )


class RequestSpan:
    """The span of a request."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """Note the status of the answer. What a client did wrong is no error of the service."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)


class _SpanWatch:
    def __init__(self, begin: Callable[[str], AbstractContextManager[Span]]) -> None:
        self._begin = begin

    def around(self, operation: str, call: Call) -> Call:
        """See `Watch.around`."""
        begin = self._begin

        async def traced(*args: Any, **kwargs: Any) -> Any:
            with begin(operation) as span:
                try:
                    return await call(*args, **kwargs)
                except BaseException as error:
                    # A conflict, or an address that is taken, is an answer.
                    if isinstance(error, Unavailable) or not isinstance(error, AccountsError):
                        span.set_attribute("error.type", type(error).__name__)
                        span.set_status(StatusCode.ERROR)
                    raise

        return traced
