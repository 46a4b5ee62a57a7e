"""Traces, as a real collector receives them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lab.server import SOURCE, Server, bare_environment, free_port, serve

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """OTLP over HTTP, kept in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Span] = []

    def trace(self, root: str, count: int) -> dict[str, Span]:
        """The spans by name of the trace whose request is named `root`, once there are `count`."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            traces = {span.trace_id for span in self.spans if span.name == root}
            found = {span.name: span for span in self.spans if span.trace_id in traces}
            if len(found) >= count:
                return found
            time.sleep(0.05)
        raise AssertionError([span.name for span in self.spans])


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(
            self.rfile.read(int(self.headers["Content-Length"]))
        )
        for resource in request.resource_spans:
            assert any(
                a.key == "service.name" and a.value.string_value
                for a in resource.resource.attributes
            )
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, model_store: Path, collector: Collector
) -> Iterator[Server]:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serve(tmp_path_factory.mktemp("traced") / "log", environment) as running:
        yield running


def test_a_request_is_one_span_with_its_stages_below_it(
    traced: Server, collector: Collector
) -> None:
    with traced.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert (
            client.post("/embed", json={"text": "private sentence"}, headers=headers).status_code
            == 200
        )
    spans = collector.trace("POST /embed", 5)
    request = spans.pop("POST /embed")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert set(spans) == {"gate", "tokenise", "queue", "inference"}
    assert all(span.parent_span_id == request.span_id for span in spans.values())
    order = [
        spans[name].start_time_unix_nano for name in ("gate", "tokenise", "queue", "inference")
    ]
    assert order == sorted(order)
    slack = 5_000_000  # ns between two clocks
    assert all(
        request.start_time_unix_nano - slack <= span.start_time_unix_nano for span in spans.values()
    )
    assert all(
        span.end_time_unix_nano <= request.end_time_unix_nano + slack for span in spans.values()
    )
    said = {attribute.key: attribute.value for attribute in request.attributes}
    assert said["http.response.status_code"].int_value == 200
    assert said["http.route"].string_value == "/embed"
    assert said["embedding.tokens"].int_value > 0
    assert "private" not in str(spans) + str(request)


def test_a_refused_request_ends_at_the_gate(traced: Server, collector: Collector) -> None:
    httpx.post(f"{traced.url}/batch-embed", json={"texts": ["a"]})
    spans = collector.trace("POST /batch-embed", 2)
    assert set(spans) == {"POST /batch-embed", "gate"}


def test_a_collector_that_is_away_holds_nobody_up(model_store: Path, tmp_path: Path) -> None:
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serve(tmp_path / "log", environment) as server, server.client() as client:
        began = time.monotonic()
        assert all(client.post("/embed", json={"text": "a"}).status_code == 200 for _ in range(5))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_without_a_collector_no_exporter_is_imported(endpoint: str) -> None:
    script = (
        "import sys, tracing; app = object(); "
        f"tracing.configure({endpoint!r} or None, version='1'); "
        "print('opentelemetry.exporter.otlp.proto.http' in sys.modules, "
        "tracing.around(app, routes=()) is app)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=SOURCE, env=bare_environment(), capture_output=True
    )
    assert said.stdout.decode().split() == (["True", "False"] if endpoint else ["False", "True"]), (
        said.stderr
    )
