"""Waits between requests: never shorter than agreed, never longer than a day."""

import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from jobs.errors import JobError
from jobs.remote import http_client
from tests.jobs.remote.remote_job import send_head, service_with
from tests.jobs.remote.stub_service import Reply, Stub, ask, refusal, served, vectors


@pytest.mark.parametrize("told", ["0", "0.0", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"])
def test_a_retry_after_of_nothing_is_not_followed(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """A lower bound of the waits holds however busy the machine is."""
    monkeypatch.setattr(http_client, "LEAST_WAIT", 0.2)
    arrivals: list[float] = []

    def reply(body: dict[str, Any]) -> Reply:
        arrivals.append(time.monotonic())
        if len(arrivals) < 3:
            return refusal(429, "quota_requests", Retry_After=told)
        return vectors(body)

    stub.reply = reply
    ask(stub.url, ["a"])
    first, second, third = arrivals
    assert second - first >= 0.2
    assert third - second >= 0.4


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("3", 3),
        ("9" * 400, http_client.LONGEST_TOLD),
        ("Fri, 31 Dec 9999 23:59:59 GMT", http_client.LONGEST_TOLD),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("\u00b2", None),
        ("-1", None),
        ("inf", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("", None),
    ],
)
def test_a_retry_after_is_at_most_a_day(told: str, seconds: float | None) -> None:
    assert http_client._retry_after(told) == seconds


@pytest.mark.parametrize("part", ["head", "body", "informational"])
def test_an_answer_that_never_ends_is_abandoned(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "DEADLINE", 0.5)
    monkeypatch.setattr(http_client, "OUTAGE", 0.0)
    over = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        if part == "body":
            send_head(handler, ("Content-Length", "1000000"))
        line = {"head": b"HTTP/1.1 200", "body": b"{", "informational": b"HTTP/1.1 103 E\r\n\r\n"}
        try:
            while not over.wait(0.05):
                handler.wfile.write(line[part][: 1 if part == "head" else None])
                handler.wfile.flush()
        except OSError:
            pass

    with served(service_with(slow)) as url:
        try:
            with pytest.raises(JobError, match="does not answer"):
                ask(url, ["a"])
        finally:
            over.set()
