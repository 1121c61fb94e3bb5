"""Traces: a span for each request with those of the store and the hasher in it, and no secret in any of them."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pickguard.adapters.memory import MemoryAccounts, MemoryReceipts
from pickguard.adapters.memory_limits import MemoryRateLimiter
from pickguard.adapters.telemetry.tracing import Tracing, make_provider
from pickguard.domain.model.errors import StoreUnavailable
from pickguard.entrypoints.bootstrap import Store, Telemetry, build_services, wants_traces
from pickguard.entrypoints.http.watching import Watching
from tests.support.fakes import GOOD_PASSWORD, NoCommonPasswords, RecordedEvents, cheap_hasher
from tests.support.http import EMAIL, NAME, Api, serving_services
from tests.support.telemetry import Measured

ME = "/v1/users/me"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    """A service that is traced into this process's memory."""

    def __init__(self, api: Api, exporter: InMemorySpanExporter, accounts: "Accounts") -> None:
        self.api = api
        self.accounts = accounts
        self._exporter = exporter

    def spans(self) -> list[ReadableSpan]:
        """Return what has ended since this was asked last."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def request(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """Return the span of the one request since, and those within it."""
        spans = self.spans()
        (server,) = (span for span in spans if span.kind is SpanKind.SERVER)
        inner = [span for span in spans if span is not server]
        assert server.context is not None
        for span in inner:
            assert span.parent is not None
            assert span.parent.span_id == server.context.span_id
        return server, inner


class Accounts(MemoryAccounts):
    """Fails as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None

    async def read_session(self, *args: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        return await super().read_session(*args)


@asynccontextmanager
async def tracing(measured: Measured | None = None) -> AsyncGenerator[Traced]:
    exporter = InMemorySpanExporter()
    traces = Tracing(make_provider(SimpleSpanProcessor(exporter)))
    telemetry = Telemetry(tracing=traces, metrics=measured.metrics if measured else None)
    accounts = Accounts()
    bare = Store(accounts=accounts, directory=accounts, receipts=MemoryReceipts(), limits=MemoryRateLimiter())
    store = telemetry.around_store(bare, system="memory")
    async with cheap_hasher() as hasher:
        services = build_services(
            accounts=store.accounts,
            directory=store.directory,
            receipts=store.receipts,
            limiter=store.limits,
            hasher=telemetry.around_hasher(hasher),
            events=RecordedEvents(),
            common_passwords=NoCommonPasswords(),
        )
        watching = Watching(tracing=traces, answered=measured.metrics.requests.answered if measured else None)
        async with serving_services(services, watching=watching) as api:
            yield Traced(api, exporter, accounts)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_one_span_with_the_work_for_it_within() -> None:
    async with tracing() as traced:
        await traced.api.register()
        traced.spans()
        answer = await traced.api.try_log_in()
        server, inner = traced.request()
    assert server.name == "POST /v1/sessions"
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/sessions",
        "http.response.status_code": 201,
        "pickguard.request_id": answer.headers["X-Request-ID"],
    }
    assert [span.name for span in inner] == [
        "accounts.find_holder",
        "limits.check",
        "password.verify",
        "limits.succeed",
        "accounts.get",
        "accounts.save",
    ]
    assert attributes(inner[0]) == {"db.system.name": "memory", "db.operation.name": "accounts.find_holder"}
    assert inner[0].kind is SpanKind.CLIENT
    assert inner[2].kind is SpanKind.INTERNAL
    assert server.resource.attributes["service.name"] == "pickguard"
    assert server.resource.attributes["service.version"]


async def test_the_shortest_way_is_traced_like_the_others() -> None:
    async with tracing() as traced:
        token = await traced.api.sign_up()
        traced.spans()
        await traced.api.me(token)
        server, inner = traced.request()
    assert (server.name, [span.name for span in inner]) == (f"GET {ME}", ["accounts.read_session"])


async def test_a_request_is_within_the_span_that_its_caller_names() -> None:
    async with tracing() as traced:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
        await traced.api.call("GET", "/livez", headers=headers)
        server, _ = traced.request()
        assert server.context is not None
        assert server.parent is not None
        assert (server.context.trace_id, server.parent.span_id) == (int(TRACE, 16), int(PARENT, 16))
        for nonsense in ("", "x", f"00-{TRACE}", "00-" + "0" * 32 + f"-{PARENT}-01", "ff" * 500):
            await traced.api.call("GET", "/livez", headers={"traceparent": nonsense, "baggage": "a=b"})
            server, _ = traced.request()
            assert server.parent is None


@pytest.mark.requirement(75)
@pytest.mark.parametrize(
    "state", ["secret=canary", "canary", "a=canary=", "canary\u2028=1", ",".join(f"canary{n}=1" for n in range(40))]
)
async def test_what_a_caller_keeps_beside_its_span_is_neither_logged_nor_traced(
    caplog: pytest.LogCaptureFixture, state: str
) -> None:
    async with tracing() as traced:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": state}
        await traced.api.call("GET", "/livez", headers=headers)
        await traced.api.call("GET", "/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-01-{'canary' * 100}"})
        spans = traced.spans()
    assert [span.parent is not None for span in spans] == [True, False]
    assert "canary" not in "".join(span.to_json() for span in spans)
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_what_no_route_is_for_is_named_by_its_method_alone() -> None:
    async with tracing() as traced:
        await traced.api.call("GET", "/a-path-of-a-client?with=a-query")
        server, _ = traced.request()
        assert (server.name, attributes(server)["http.response.status_code"]) == ("GET", 404)
        assert "http.route" not in attributes(server)
        await traced.api.raw(b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n")
        server, _ = traced.request()
        assert (server.name, attributes(server)["http.request.method"]) == ("_OTHER", "_OTHER")


async def test_what_fails_is_marked_and_what_a_client_did_wrong_is_not() -> None:
    async with tracing() as traced:
        token = await traced.api.sign_up()
        traced.spans()
        await traced.api.call("GET", ME, token=f"{token}x")
        server, _ = traced.request()
        assert server.status.status_code is StatusCode.UNSET
        traced.accounts.failure = StoreUnavailable("the store said something secret")
        await traced.api.call("GET", ME, token=token)
        server, (read,) = traced.request()
        assert server.status.status_code is read.status.status_code is StatusCode.ERROR
        assert attributes(server)["error.type"] == "503"
        assert attributes(read)["error.type"] == "StoreUnavailable"
        traced.accounts.failure = RuntimeError("a fault")
        await traced.api.call("GET", ME, token=token)
        server, (read,) = traced.request()
        assert (attributes(server)["error.type"], attributes(read)["error.type"]) == ("500", "RuntimeError")


@pytest.mark.requirement(75)
async def test_no_span_holds_what_anybody_keeps_secret() -> None:
    async with tracing() as traced:
        token = await traced.api.sign_up()
        await traced.api.try_log_in(password="another good phrase")
        await traced.api.call("POST", "/v1/users", {"name": NAME, "email": EMAIL, "password": GOOD_PASSWORD})
        await traced.api.call(
            "GET", f"/{token}?token={token}", headers={"Authorization": f"Bearer {token}x", "tracestate": token}
        )
        await traced.api.call("DELETE", f"/v1/sessions/{token}", token=token)
        traced.accounts.failure = RuntimeError(f"{token} of {EMAIL}")
        await traced.api.call("GET", ME, token=token)
        shown = "".join(span.to_json() for span in traced.spans())
    assert json.loads(shown[: shown.index("\n}") + 2])
    for secret in (token, token[3:40], EMAIL, NAME, GOOD_PASSWORD, "another good", "argon2id"):
        assert secret not in shown


async def test_metrics_and_traces_go_together() -> None:
    measured = Measured()
    async with tracing(measured) as traced:
        token = await traced.api.sign_up()
        traced.spans()
        await traced.api.me(token)
        _, inner = traced.request()
    assert [span.name for span in inner] == ["accounts.read_session"]
    assert measured.value("pickguard_http_requests_total", method="GET", route=ME, status="200") == 1
    assert measured.value("pickguard_store_operation_duration_seconds_count", operation="accounts.read_session") == 1


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_traces_are_sent_where_opentelemetrys_variables_say_so(environment: dict[str, str], *, wanted: bool) -> None:
    assert wants_traces(environment) == wanted


def test_packages_that_are_missing_are_named_and_stop_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pickguard.entrypoints.bootstrap._is_installed", lambda _: False)
    assert not wants_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert caplog.messages == ["no traces are sent, though there is an endpoint for them: install pickguard[otel]"]


def test_an_operator_names_the_service_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "accounts")
    assert make_provider(SimpleSpanProcessor(InMemorySpanExporter())).resource.attributes["service.name"] == "accounts"
