"""Spans of a request, sent by OTLP if OTEL_EXPORTER_OTLP_ENDPOINT is set.

Without it nothing of OpenTelemetry is imported.
"""

import threading
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedder.batcher import JobReport
from gate.paths import RoutePaths
from request_state import state_of

_tracer: Any = None  # an opentelemetry.trace.Tracer while tracing is on
_provider: Any = None


def configure(endpoint: str | None, *, version: str) -> None:
    """Trace to the collector at `endpoint`, if any; the SDK reads other OTEL_ variables."""
    global _tracer, _provider
    if endpoint is None or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.version": version})
    if resource.attributes["service.name"] == "unknown_service":  # OTEL_SERVICE_NAME is not set
        resource = resource.merge(Resource({"service.name": "embedding-api"}))
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"))
    )
    _tracer = _provider.get_tracer("embedding-api", version)


def shutdown(seconds: float = 2.0) -> None:
    """Send the remaining spans; wait at most `seconds` for a collector that does not answer."""
    if _provider is not None:
        sending = threading.Thread(target=_provider.shutdown, daemon=True)
        sending.start()
        sending.join(seconds)


def span(name: str) -> AbstractContextManager[Any]:
    """A child of the request's span, for a `with` statement."""
    return nullcontext() if _tracer is None else _tracer.start_as_current_span(name)


def record_job(job: JobReport) -> None:
    """Add the spans `queue` and `inference` of a job that is done."""
    if _tracer is not None:
        offset = time.time() - time.monotonic()
        _record_span("queue", job.arrived + offset, job.started + offset)
        _record_span("inference", job.started + offset, job.ended + offset)


def _record_span(name: str, start: float, end: float) -> None:
    _tracer.start_span(name, start_time=_nanoseconds(start)).end(_nanoseconds(end))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def around(app: ASGIApp, *, routes: Collection[str]) -> ASGIApp:
    """`app` with a span per request, in the trace of `traceparent`, if tracing is on."""
    return app if _tracer is None else _Traced(app, routes)


def behind_gate(app: ASGIApp) -> ASGIApp:
    """`app`, which ends the span of the gate when it is called."""
    if _tracer is None:
        return app

    async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
        if gate := scope.pop("gate_span", None):
            gate.end()
        await app(scope, receive, send)

    return admitted


class _Traced:
    def __init__(self, app: ASGIApp, routes: Collection[str]) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._routes = RoutePaths(routes)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._routes.find(scope["path"]) or "other"
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        with _tracer.start_as_current_span(
            f"{scope['method']} {route}",
            context=self._propagator.extract(headers),
            kind=_server_kind(),
        ) as request:
            request.set_attributes({"http.request.method": scope["method"], "http.route": route})

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _describe(request, message["status"], scope)
                await send(message)

            scope["gate_span"] = _tracer.start_span("gate")
            try:
                await self._app(scope, receive, answer)
            finally:
                if gate := scope.pop("gate_span", None):  # refused
                    gate.end()


def _server_kind() -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind.SERVER


def _describe(request: Any, status: int, scope: Scope) -> None:
    from opentelemetry.trace import StatusCode

    request.set_attributes(
        {
            "http.response.status_code": status,
            "embedding.tokens": state_of(scope).n_tokens,
            "embedding.request_id": state_of(scope).request_id,
        }
    )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        request.set_status(StatusCode.ERROR)
