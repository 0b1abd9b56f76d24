"""Traces: a server span for each request and a span for each room that it went through, sent by OpenTelemetry.

W3C trace context is accepted from callers, and current while a request is answered, so that whatever a handler calls
could pass it on. Rooms are told after the fact, from the times that the trail has: nothing is measured twice. Needs the
extra `tracing`, and nothing of it is imported without an endpoint to send to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from penumbra import __version__
from service.jobs import Sampling
from service.telemetry.trail import Trail, clock

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

logger = logging.getLogger(__name__)

ROOMS = ("decode", "queue", "compute", "encode")
_CONTEXT = frozenset((b"traceparent", b"tracestate", b"baggage"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))

Headers = Iterable[tuple[bytes, bytes]]


def provider(endpoint: str) -> TracerProvider | None:
    """Sends spans to an OTLP endpoint, over HTTP; None, and a line in the log, where the extra is not installed.

    What else there is to set (headers, sampler, resource attributes) is taken from OpenTelemetry's own variables.
    """
    if find_spec("opentelemetry.exporter") is None or find_spec("opentelemetry.sdk") is None:
        logger.warning("no traces: there is an OTLP endpoint, but OpenTelemetry is not installed (extra: tracing)")
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {"service.name": "penumbra", "service.version": __version__, "service.instance.id": str(uuid4())}
    made = TracerProvider(resource=Resource(ours).merge(OTELResourceDetector().detect()))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return made


class Tracer:
    """Makes the spans of requests."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, propagate, trace

        self._provider, self._context, self._propagate, self._trace = provider, context, propagate, trace
        self._tracer = provider.get_tracer("penumbra", __version__)

    def begin(self, trail: Trail, scope: Any) -> None:
        """Begins the span of a request, which becomes the current one; `scope` is ASGI's."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in _CONTEXT
        }
        known = trail.method in _METHODS
        attributes: dict[str, Any] = {
            "http.request.method": trail.method if known else "_OTHER",
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
            "network.protocol.version": scope.get("http_version", "1.1"),
            "penumbra.request_id": trail.request_id.decode(),
        }
        address, port = scope.get("server") or (None, None)
        attributes |= {"server.address": address} if address else {}
        attributes |= {"server.port": port} if port else {}
        trail.span = self._tracer.start_span(
            trail.method if known else "HTTP",
            context=self._propagate.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=_wall(trail.began),
        )
        trail.current = self._context.attach(self._trace.set_span_in_context(trail.span))

    def end(self, trail: Trail, status: int, error: Exception | None) -> None:
        """Ends the span of a request, after those of its rooms."""
        self._context.detach(trail.current)
        span: Span = trail.span
        end = clock()
        if span.is_recording():
            span.update_name(f"{span.name} {trail.route}")  # type: ignore[attr-defined]  # recording spans have one
            span.set_attributes({"http.route": trail.route, "http.response.status_code": status, **_asked(trail)})
            if error is not None or status >= 500:
                span.set_attribute("error.type", type(error).__name__ if error is not None else str(status))
            if status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
            around = self._trace.set_span_in_context(span)
            for room, start, until in _rooms(trail, end):
                self._tracer.start_span(room, context=around, start_time=_wall(start)).end(_wall(until))
        span.end(_wall(end))

    def close(self) -> None:
        """Sends what is waiting; may take as long as the endpoint does."""
        self._provider.shutdown()


def _rooms(trail: Trail, end: float) -> Iterable[tuple[str, float, float]]:
    """The rooms that a request was in, with when it came and when it left."""
    if trail.decoded is None:
        return
    yield "decode", trail.began, trail.decoded
    if trail.timings is not None:
        begun = trail.decoded + trail.timings.queue
        done = begun + trail.timings.compute
        yield from (("queue", trail.decoded, begun), ("compute", begun, done), ("encode", done, max(done, end)))


def _asked(trail: Trail) -> dict[str, Any]:
    """What a request was about, without what it said."""
    found: dict[str, Any] = {}
    if trail.model is not None:
        manifest = trail.model.manifest
        found |= {"penumbra.model.name": manifest.name, "penumbra.model.version": manifest.version}
        found["penumbra.model.digest"] = manifest.digest
    if trail.asked is not None:
        found["penumbra.rows"] = trail.rows
    if isinstance(trail.asked, Sampling):
        committee = trail.asked.committee
        found |= {"penumbra.samples": committee.samples, "penumbra.seed": committee.seed}
    return found


def _wall(moment: float) -> int:
    """A moment of our clock as nanoseconds of Unix time."""
    return time.time_ns() - int((clock() - moment) * 1e9)
