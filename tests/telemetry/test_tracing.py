"""Traces: a server span with the caller's context, a span for each room, and a real collector that gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.telemetry import tracing
from tests.api.inside import running
from tests.api.live import ROOT, Server
from tests.api.wire import ROW, TINY_ROWS

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=canary"}


@asynccontextmanager
async def traced(store: Path) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient, InMemorySpanExporter]]:
    """A service whose spans are kept in memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with running(store=store, access_log=False) as (app, client):
        app.observer.tracer = tracing.Tracer(provider)  # type: ignore[attr-defined]
        yield app, client, exporter


def spans_of(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The server span, and those of its rooms in the order in which they began; forgets them."""
    finished = exporter.get_finished_spans()
    exporter.clear()
    (server,) = (span for span in finished if span.kind is trace.SpanKind.SERVER)
    rooms = [span for span in finished if span is not server]
    assert all(span.parent is not None and span.parent.span_id == server.context.span_id for span in rooms)
    return server, sorted(rooms, key=lambda span: (span.start_time, span.end_time))


@pytest.mark.parametrize("verb", ["predict", "sample"])
async def test_a_request_is_a_span_with_a_span_for_each_room(verb: str, tiny_store: Path) -> None:
    """Decode, queue, compute and encode follow each other within the server span, which says what was asked."""
    async with traced(tiny_store) as (app, client, exporter):
        body: dict[str, Any] = {"inputs": TINY_ROWS, **({"samples": 9, "seed": 4} if verb == "sample" else {})}
        headers = {"X-Request-ID": "mine"}
        answer = await client.post(f"/v1/models/silent/{verb}", json=body, headers=headers)
        assert answer.status_code == 200
        server, rooms = spans_of(exporter)
        digest = app.state.inference.resolve("silent").manifest.digest
    route = f"/v1/models/{{name}}/{verb}"
    assert server.name == f"POST {route}"
    assert server.parent is None
    assert server.status.status_code is trace.StatusCode.UNSET
    asked = {"penumbra.samples": 9, "penumbra.seed": 4} if verb == "sample" else {}
    assert dict(server.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": 200,
        "url.path": f"/v1/models/silent/{verb}",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "inside",
        "penumbra.request_id": "mine",
        "penumbra.model.name": "silent",
        "penumbra.model.version": "1",
        "penumbra.model.digest": digest,
        "penumbra.rows": 3,
        **asked,
    }
    assert tuple(span.name for span in rooms) == tracing.ROOMS
    edges = [edge for span in rooms for edge in (span.start_time, span.end_time)]
    assert None not in edges
    tolerance = 50_000  # ns: each moment is put onto the wall clock for itself
    assert all(later >= earlier - tolerance for earlier, later in pairwise(edges))
    assert server.start_time - tolerance <= edges[0]
    assert edges[-1] <= server.end_time + tolerance


async def test_the_callers_context_is_taken_over_and_current(tiny_store: Path) -> None:
    """The span belongs to the caller's trace, whose context is current for whatever a handler calls."""
    seen: list[trace.SpanContext] = []
    async with traced(tiny_store) as (app, client, exporter):
        inference = app.state.inference
        predict = inference.predict

        async def watched(*arguments: Any) -> Any:
            seen.append(trace.get_current_span().get_span_context())
            return await predict(*arguments)

        inference.predict = watched
        await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS}, headers=CONTEXT)
        server, rooms = spans_of(exporter)
        await client.get("/v1/models/silent", headers=CONTEXT)
        described, none = spans_of(exporter)
        assert not trace.get_current_span().get_span_context().is_valid
    for span in (server, *rooms, described):
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.context.trace_state.get("vendor") == "canary"
    for span in (server, described):
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == PARENT
    assert seen[0].span_id == server.context.span_id
    assert described.name == "GET /v1/models/{name}"
    assert none == []


@pytest.mark.parametrize("sent", ["", "canary", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", f"ff-{TRACE}-{PARENT}-01"])
async def test_a_context_that_is_none_begins_a_trace(sent: str, tiny_store: Path) -> None:
    """What can't be read is left alone, and the request is answered."""
    async with traced(tiny_store) as (_, client, exporter):
        answer = await client.get("/health/live", headers={"traceparent": sent})
        assert answer.status_code == 200
        server, _ = spans_of(exporter)
    assert server.parent is None
    assert server.context.trace_id != 0


async def test_what_goes_wrong_is_told(tiny_store: Path) -> None:
    """Refusals by their kind, bugs as errors, and only the rooms that a request has reached."""
    async with traced(tiny_store) as (app, client, exporter):
        await client.post("/v1/models/silent/predict", json={"inputs": []})
        refused, rooms = spans_of(exporter)
        assert (refused.attributes or {})["error.type"] == "InvalidRows"
        assert refused.status.status_code is trace.StatusCode.UNSET
        assert rooms == []
        await client.post("/v1/models/dry/sample", json={"inputs": TINY_ROWS})
        refused, rooms = spans_of(exporter)
        assert [span.name for span in rooms] == ["decode"]

        async def fail(*_: object) -> None:
            raise ZeroDivisionError("canary")

        app.state.inference.predict = fail
        await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS})
        bug, _ = spans_of(exporter)
        assert (bug.attributes or {})["error.type"] == "ZeroDivisionError"
        assert (bug.attributes or {})["http.response.status_code"] == 500
        assert bug.status.status_code is trace.StatusCode.ERROR
        assert "canary" not in str(bug.attributes)


async def test_requests_at_once_have_spans_of_their_own(tiny_store: Path) -> None:
    """Twenty in one company are twenty traces."""
    async with traced(tiny_store) as (_, client, exporter):
        body = {"inputs": TINY_ROWS}
        await asyncio.gather(*(client.post("/v1/models/silent/predict", json=body) for _ in range(20)))
        finished = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in finished}) == 20
    assert len(finished) == 20 * (1 + len(tracing.ROOMS))


async def test_without_an_endpoint_there_is_no_tracer(tiny_store: Path) -> None:
    """One check is all that is left of it."""
    async with running(store=tiny_store, access_log=False) as (app, _):
        assert app.observer.tracer is None  # type: ignore[attr-defined]


def test_the_sdk_is_imported_only_when_it_is_needed() -> None:
    """Starting the service without an endpoint takes no time for it."""
    script = "import sys, service.app; sys.exit('opentelemetry.sdk' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


def test_without_the_extra_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint alone does not keep the service from starting."""
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    assert tracing.provider("http://127.0.0.1:1/v1/traces") is None
    assert "extra: tracing" in caplog.text


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    """An OTLP receiver on the loopback interface: its address, and what it has got with the path that that came to."""
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("through", ["setting", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_real_collector_gets_the_spans(
    through: str, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over OTLP and HTTP, by our setting or OpenTelemetry's own; all of them by the time the service has ended."""
    with collector() as (url, received):
        settings = {}
        if through == "setting":
            settings["otlp_endpoint"] = url
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        else:
            monkeypatch.setenv(through, url + ("/own" if "TRACES" in through else ""))
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        server = start_server(**settings)
        body = {"inputs": [ROW], "seed": 7, "samples": 30}
        server.client.post("/v1/models/diabetes/sample", json=body, headers=CONTEXT)
        server.stop()
    spans = [
        span
        for path, request in received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if path == ("/own" if "TRACES" in through else "/v1/traces")
    ]
    ours = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    assert ours.keys() == {"POST /v1/models/{name}/sample", *tracing.ROOMS}
    root = ours.pop("POST /v1/models/{name}/sample")
    assert root.parent_span_id.hex() == PARENT
    assert all(span.parent_span_id == root.span_id for span in ours.values())
    resource = {each.key: each.value.string_value for each in received[0][1].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "penumbra"
    assert resource["deployment.environment.name"] == "test"
    (line,) = (line for line in server.output.splitlines() if "/sample" in line)
    assert f'"trace_id":"{TRACE}"' in line
