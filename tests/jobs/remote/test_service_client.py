"""The client of a service that is slow, full or down: a real HTTP server with scripted answers."""

import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from jobs import embed_remote
from jobs.errors import JobError, UsageError
from jobs.remote import http_client, service_client
from lab.server import free_port
from tests.jobs.conftest import write_jsonl
from tests.jobs.remote.stub_service import (
    Reply,
    Stub,
    ask,
    lengths,
    refusal,
    replies,
    served,
    vectors,
)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "service.internal", "ftp://127.0.0.1", "http://127.0.0.1:port", ""]
)
def test_an_invalid_url_is_reported_at_once(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        ask(url, ["a"])
    assert "URL" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"<html>Welcome to nginx</html>", b"[]", b'{"data": []}', b'{"data": [{"id": "gpt"}]}'],
)
def test_the_url_of_another_server_is_reported_at_once(content: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with (
        served(answer) as url,
        pytest.raises(UsageError, match="is not the URL of an embedding-api"),
    ):
        ask(url, ["a"])


def test_a_service_that_never_answered_is_tried_once() -> None:
    tried = []

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        tried.append(handler.path)
        handler.close_connection = True

    with served(answer) as url, pytest.raises(JobError, match="does not answer"):
        ask(url, ["a"])
    assert tried == ["/v1/models"]


def test_a_port_that_nobody_listens_on_ends_the_job() -> None:
    with pytest.raises(JobError, match=r"does not answer \(ConnectError"):
        ask(f"http://127.0.0.1:{free_port()}", ["a"])


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_its_service_ends_the_job_after_a_while(
    stub: Stub, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "OUTAGE", 0.5)
    stub.reply = lambda _: (status, b"<html>", {})
    with pytest.raises(
        JobError, match=f"does not answer \\(status {status}\\); the same command resumes the job"
    ):
        ask(stub.url, ["a"])


def test_a_service_with_retry_after_is_waited_for(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "OUTAGE", 0.5)
    stub.reply = replies(*[refusal(503, "queue_full", Retry_After="1")] * 2)
    assert lengths(ask(stub.url, ["a"]).results) == [1]
    assert len(stub.bodies) == 3


def test_an_outage_begins_with_its_first_failure_and_is_reported(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "OUTAGE", 1.5)
    stub.reply = replies(refusal(429, "quota_requests", Retry_After="2"), (502, b"", {}))
    asked = ask(stub.url, ["a"])
    assert lengths(asked.results) == [1]
    assert len(asked.said) == 2
    assert "(status 429, quota_requests): waiting 2 s" in asked.said[0]
    assert "(status 502): waiting" in asked.said[1]


@pytest.mark.parametrize("code", ["too_many_concurrent", "user_queue_full"])
def test_concurrency_is_lowered_to_what_the_service_allows(
    stub: Stub, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "BATCH_TEXTS", 1)
    monkeypatch.setattr(http_client, "LEAST_WAIT", 0.1)

    def reply(body: dict[str, Any]) -> Reply:
        if stub.in_flight > 1:
            return refusal(429, code, Retry_After="0")
        time.sleep(0.05)
        return vectors(body)

    stub.reply = reply
    texts = [f"{n}" for n in range(6)]
    asked = ask(stub.url, texts, concurrency=4)
    assert lengths(asked.results) == [len(text) for text in texts]
    stub.most_in_flight = 0
    before = len(stub.bodies)
    assert before < 4 * len(texts)


def test_as_many_requests_are_in_flight_as_concurrency_says(
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
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": f"{n}"} for n in range(2000)])
    assert (
        embed_remote.main(
            [
                stub.url,
                str(source),
                str(tmp_path / "out"),
                "--concurrency",
                "16",
                "--part-rows",
                "40",
                "--quiet",
            ]
        )
        == 0
    )
    assert stub.most_in_flight == 16
