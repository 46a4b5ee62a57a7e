"""The client of a service that is slow, full, down, or no service at all: an HTTP server that a test scripts."""

import asyncio
import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import embed_remote, service_client
from jobs.errors import JobError, RowError, UsageError
from jobs.rows import Row
from jobs.service_client import Answer, Result, ServiceClient
from tests.jobs.conftest import write_jsonl
from tests.live.server import ROOT, free_port

CARD = {"data": [{"max_tokens": 256, "dimensions": [2]}]}
Reply = tuple[int, Any, dict[str, str]]  # status, body, headers


def vectors(body: dict[str, Any], truncated: bool = False) -> Reply:
    """What the service would say: the length of a text is its vector."""
    rows = [
        base64.b64encode(np.array([len(text), 1], "<f4").tobytes()).decode()
        for text in body["texts"]
    ]
    cut = [*range(len(rows))] if truncated else []
    return 200, {"embeddings": rows, "tokens": [1] * len(rows), "truncated": cut}, {}


def refusal(status: int, code: str, param: str | None = None, **headers: str) -> Reply:
    return status, {"error": {"code": code, "message": f"it says {code}", "param": param}}, headers


@dataclass
class Stub:
    """Answers with what `reply` makes of a body, and remembers all of them."""

    reply: Callable[[dict[str, Any]], Reply] = vectors
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if handler.path == "/v1/models":
            status, content, headers = 200, CARD, {"X-Embedding-Fingerprint": "f"}
        else:
            with self.lock:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                self.bodies.append(json.loads(body))
            status, content, headers = self.reply(json.loads(body))
            with self.lock:
                self.in_flight -= 1
        handler.send_response(status)
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, value in {"Content-Length": str(len(sent)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(sent)


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    with served(stub.answer) as stub.url:
        yield stub


@dataclass
class Asked:
    results: list[Result]
    said: list[str]


def ask(
    url: str, texts: list[str], *, titles: bool = False, times: int = 1, concurrency: int = 2
) -> Asked:
    """What a client makes of texts; the same `times` times, by one client."""
    said: list[str] = []
    rows = [
        Row(n, text, n, f"title {n}" if titles else None, None, {}) for n, text in enumerate(texts)
    ]

    async def embed() -> list[Result]:
        client = ServiceClient(url, "token", concurrency=concurrency, say=said.append)
        try:
            await client.look()
            for _ in range(times - 1):
                await client.embed(rows, {}, titles=titles)
            return await client.embed(rows, {}, titles=titles)
        finally:
            await client.close()

    return Asked(asyncio.run(embed()), said)


def lengths(results: list[Result]) -> list[int]:
    assert all(isinstance(result, Answer) for result in results), results
    return [int(result.vector[0]) for result in results if isinstance(result, Answer)]


def replies(*given: Reply) -> Callable[[dict[str, Any]], Reply]:
    """Those first, and vectors for ever after."""
    waiting = list(given)
    return lambda body: waiting.pop(0) if waiting else vectors(body)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "service.internal", "ftp://127.0.0.1", "http://127.0.0.1:port", ""]
)
def test_a_url_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        ask(url, ["a"])
    assert "URL" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"<html>Welcome to nginx</html>", b"[]", b'{"data": []}', b'{"data": [{"id": "gpt"}]}'],
)
def test_a_url_of_something_else_is_told_at_once(content: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with served(answer) as url, pytest.raises(UsageError, match="is not the URL of this service"):
        ask(url, ["a"])


def test_a_service_that_nobody_has_seen_is_not_waited_for() -> None:
    started = time.monotonic()
    with pytest.raises(JobError, match=r"does not answer \(ConnectError"):
        ask(f"http://127.0.0.1:{free_port()}", ["a"])
    assert time.monotonic() - started < 5


def test_a_title_that_is_refused_makes_no_later_batch_smaller(stub: Stub) -> None:
    stub.reply = replies(*[refusal(422, "invalid_request", "title.1")] * 2)
    asked = ask(stub.url, ["a", "bb", "ccc", "dddd"], titles=True, times=2, concurrency=1)
    assert lengths(asked.results) == [1, 2, 3, 4]
    assert [len(body["texts"]) for body in stub.bodies] == [4, 2, 1, 1, 2, 4]


def test_a_batch_of_too_many_texts_makes_all_later_ones_smaller(stub: Stub) -> None:
    stub.reply = lambda body: (
        vectors(body) if len(body["texts"]) < 3 else refusal(422, "invalid_request", "texts")
    )
    asked = ask(stub.url, ["a", "bb", "ccc", "dddd"], times=2, concurrency=1)
    assert lengths(asked.results) == [1, 2, 3, 4]
    assert [len(body["texts"]) for body in stub.bodies] == [4, 2, 2, 2, 2]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_whose_service_stays_away_ends_the_job(
    stub: Stub, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "OUTAGE", 0.5)
    stub.reply = lambda _: (status, b"<html>", {})
    with pytest.raises(
        JobError, match=f"does not answer \\(status {status}\\); the same command goes on"
    ):
        ask(stub.url, ["a"])


def test_a_service_that_says_when_to_come_back_is_waited_for(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "OUTAGE", 0.5)
    stub.reply = replies(*[refusal(503, "queue_full", Retry_After="1")] * 2)
    assert lengths(ask(stub.url, ["a"]).results) == [1]
    assert len(stub.bodies) == 3


def test_an_outage_begins_with_its_first_failure_and_is_told(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "OUTAGE", 1.5)
    stub.reply = replies(refusal(429, "quota_requests", Retry_After="2"), (502, b"", {}))
    asked = ask(stub.url, ["a"])
    assert lengths(asked.results) == [1]
    assert len(asked.said) == 2
    assert "(status 429): waiting 2 s" in asked.said[0]
    assert "(status 502): waiting" in asked.said[1]


def test_a_user_who_may_have_one_request_at_a_time_comes_down_to_that(stub: Stub) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if stub.in_flight > 1:
            return refusal(429, "too_many_concurrent", Retry_After="0")
        time.sleep(0.05)
        return vectors(body)

    stub.reply = reply
    texts = ["x" * (service_client.BATCH_CHARACTERS - n) for n in range(6)]
    asked = ask(stub.url, texts, concurrency=4)
    assert lengths(asked.results) == [len(text) for text in texts]
    stub.most_in_flight, before = 0, len(stub.bodies)
    assert before < 4 * len(texts)


@pytest.mark.parametrize("truncated", [True, False])
def test_a_text_that_no_body_holds_is_cut_where_the_model_cuts_it_anyway(
    stub: Stub, truncated: bool
) -> None:
    stub.reply = lambda body: (
        (413, b"", {})
        if len(json.dumps(body)) > 5000
        else vectors(body, truncated=truncated and len(body["texts"]) == 1)
    )
    short, long = ask(stub.url, ["short", "long" * 3000]).results
    assert isinstance(short, Answer)
    if truncated:
        assert isinstance(long, Answer)
        assert (long.vector[0], long.truncated) == (3000, True)
    else:
        assert isinstance(long, RowError)
        assert "shorter than what the model reads" in str(long)


def test_all_requests_that_were_asked_for_are_in_flight(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there = threading.Event()

    def reply(body: dict[str, Any]) -> Reply:
        if stub.in_flight >= 16:
            all_there.set()
        assert all_there.wait(10)
        return vectors(body)

    stub.reply = reply
    monkeypatch.setenv("JWT_TOKEN", "token")
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": f"{n}"} for n in range(64 * 40)])
    assert (
        embed_remote.main(
            [stub.url, str(source), str(tmp_path / "out"), "--concurrency", "16", "--quiet"]
        )
        == 0
    )
    assert stub.most_in_flight == 16


def test_who_has_only_a_url_needs_neither_an_engine_nor_ray_nor_a_database() -> None:
    absent = (
        "ray",
        "psycopg",
        "bentoml",
        "onnxruntime",
        "tokenizers",
        "torch",
        "pydantic",
        "orjson",
    )
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); import jobs.embed_remote"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(("package", "module"), [("ray", "cluster"), ("psycopg", "embed_dataset")])
def test_a_package_that_is_needed_and_not_there_is_named(package: str, module: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import jobs.{module}"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert (
        ran.stderr
        == f"embedding-api: {package} is not installed: pip install -r requirements/bulk.txt\n"
    )
