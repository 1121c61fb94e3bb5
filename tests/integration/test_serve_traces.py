"""Traces as they leave `pickguard serve`: OTLP over HTTP, to a collector on the loopback interface."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.redis_servers import free_port
from tests.support.serving import START_SECONDS, serving


class Collector:
    """Keeps the spans that it is sent, each with the process that made it."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[tuple[int, Span]] = []
        self.services: set[str] = set()

    async def receive(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        for resource in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            known = {each.key: each.value for each in resource.resource.attributes}
            self.services.add(known["service.name"].string_value)
            for scope in resource.scope_spans:
                self.spans += [(known["process.pid"].int_value, span) for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def named(self, name: str) -> list[tuple[int, Span]]:
        return [(pid, span) for pid, span in self.spans if span.name == name]


@asynccontextmanager
async def collecting() -> AsyncGenerator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_what_was_traced_is_at_the_collector_when_the_service_has_ended(workers: str, tmp_path: Path) -> None:
    async with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        async with serving(tmp_path / "data", "--workers", workers, environment=environment) as service:
            async with service.client() as api:
                assert await api.register() == 201
                token = await api.log_in()
            for _ in range(12):
                async with service.client() as api:
                    assert await api.me(token) == 200
            assert collector.spans == [], "they are sent together, at the end"
            assert await service.stop() == 0
    assert collector.services == {"pickguard"}
    reads = collector.named("GET /v1/users/me")
    assert len(reads) == 12
    assert len({pid for pid, _ in reads}) <= int(workers)
    inner = collector.named("accounts.read_session")
    assert {(pid, span.parent_span_id) for pid, span in inner} == {(pid, span.span_id) for pid, span in reads}
    for _, span in inner:
        assert {each.key: each.value.string_value for each in span.attributes}["db.system.name"] == "redis"
    assert len(collector.named("password.hash")) == len(collector.named("POST /v1/users")) == 1
    sent = "".join(str(span) for _, span in collector.spans)
    for secret in (token, "ada@example.com", "correct horse"):
        assert secret not in sent


async def test_a_collector_that_is_away_costs_no_request_and_no_orderly_end(tmp_path: Path) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    async with serving(tmp_path / "data", "--shutdown-timeout", "1s", environment=environment) as service:
        async with service.client() as api, asyncio.timeout(START_SECONDS):
            assert await api.register() == 201
            token = await api.log_in()
            for _ in range(20):
                assert await api.me(token) == 200
        assert await service.stop() == 0
