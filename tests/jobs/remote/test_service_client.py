"""The client of a service that is slow, full, down, or no service at all: an HTTP server that a test scripts."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from jobs import embed_remote
from jobs.errors import JobError, RowError, UsageError
from jobs.remote import exchange, service_client
from jobs.remote.answers import Answer
from lab.server import ROOT, free_port
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


def test_a_text_or_title_that_is_refused_is_a_bad_row_and_makes_no_later_batch_smaller(
    stub: Stub,
) -> None:
    told = [
        ("invalid_request", "title.1"),
        ("text_too_long", "texts.0"),
        ("invalid_text", "texts.1"),
    ]
    stub.reply = replies(*(refusal(422, code, param) for code, param in told))
    texts = ["a", "bb", "ccc", "dddd"]
    first = ask(stub.url, texts, titles=True, concurrency=1)
    assert [type(result) for result in first.results] == [RowError, RowError, Answer, RowError]
    assert [len(body["texts"]) for body in stub.bodies] == [4, 1, 2, 1]
    stub.bodies.clear()
    ask(stub.url, texts, titles=True, concurrency=1)
    assert [len(body["texts"]) for body in stub.bodies] == [4]


def test_many_wrong_texts_of_one_request_are_told_one_by_one(stub: Stub) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        wrong = [n for n, text in enumerate(body["texts"]) if int(text) >= 100]
        message = f"text {wrong[0]} has 300 tokens" if wrong else ""
        param = f"texts.{wrong[0]}" if wrong else None
        return refusal(422, "text_too_long", param, message=message) if wrong else vectors(body)

    stub.reply = reply
    texts = [f"{n}" for n in range(700)]
    results = ask(stub.url, texts, concurrency=1).results
    bad = [(n, str(result)) for n, result in enumerate(results) if isinstance(result, RowError)]
    assert bad == [(n, "the text has 300 tokens") for n in range(100, 700)]
    assert len(stub.bodies) == 601


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
    monkeypatch.setattr(exchange, "OUTAGE", 0.5)
    stub.reply = lambda _: (status, b"<html>", {})
    with pytest.raises(
        JobError, match=f"does not answer \\(status {status}\\); the same command goes on"
    ):
        ask(stub.url, ["a"])


def test_a_service_that_says_when_to_come_back_is_waited_for(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "OUTAGE", 0.5)
    stub.reply = replies(*[refusal(503, "queue_full", Retry_After="1")] * 2)
    assert lengths(ask(stub.url, ["a"]).results) == [1]
    assert len(stub.bodies) == 3


def test_an_outage_begins_with_its_first_failure_and_is_told(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "OUTAGE", 1.5)
    stub.reply = replies(refusal(429, "quota_requests", Retry_After="2"), (502, b"", {}))
    asked = ask(stub.url, ["a"])
    assert lengths(asked.results) == [1]
    assert len(asked.said) == 2
    assert "(status 429, quota_requests): waiting 2 s" in asked.said[0]
    assert "(status 502): waiting" in asked.said[1]


@pytest.mark.parametrize("code", ["too_many_concurrent", "user_queue_full"])
def test_a_user_who_may_have_one_request_at_a_time_comes_down_to_that(
    stub: Stub, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_client, "BATCH_TEXTS", 1)

    def reply(body: dict[str, Any]) -> Reply:
        if stub.in_flight > 1:
            return refusal(429, code, Retry_After="1")
        time.sleep(0.05)
        return vectors(body)

    stub.reply = reply
    texts = [f"{n}" for n in range(6)]
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


def test_a_request_has_as_many_texts_as_the_service_takes(stub: Stub) -> None:
    asked = ask(stub.url, [f"{n}" for n in range(5000)], concurrency=1)
    assert lengths(asked.results) == [len(f"{n}") for n in range(5000)]
    assert [len(body["texts"]) for body in stub.bodies] == [2048, 2048, 904]


def test_a_body_has_no_more_than_eight_mib(stub: Stub) -> None:
    texts = ['"\n' * 500_000 for _ in range(10)]  # each character takes two bytes in JSON
    ask(stub.url, texts, concurrency=1)
    sizes = [len(json.dumps(body, separators=(",", ":"))) for body in stub.bodies]
    assert max(sizes) <= 8 << 20
    assert [len(body["texts"]) for body in stub.bodies] == [4, 4, 2]


@pytest.mark.parametrize(
    ("message", "code", "param", "sent"),
    [
        (
            "this request counts 900 tokens in the queue and the limit is 500: its first 3 texts "
            "fit, send the others in further requests",
            "too_many_tokens",
            None,
            [8, 3, 3, 2, 3, 3, 2],
        ),
        ("List should have at most 3 items", "invalid_request", "texts", [8, 3, 3, 2, 3, 3, 2]),
        ("no figure", "too_many_tokens", None, [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_a_limit_that_is_told_is_kept_from_then_on(
    stub: Stub, message: str, code: str, param: str | None, sent: list[int]
) -> None:
    stub.reply = lambda body: (
        vectors(body)
        if len(body["texts"]) <= 3
        else refusal(413 if param is None else 422, code, param, message=message)
    )
    asked = ask(stub.url, ["a"] * 8, times=2, concurrency=1)
    assert lengths(asked.results) == [1] * 8
    assert [len(body["texts"]) for body in stub.bodies] == sent


def test_a_body_limit_that_is_told_is_kept_from_then_on(stub: Stub) -> None:
    told = "The body is larger than 4000 bytes. Send fewer or shorter texts."
    stub.reply = lambda body: (
        refusal(413, "body_too_large", message=told)
        if len(json.dumps(body, separators=(",", ":"))) > 4000
        else vectors(body)
    )
    asked = ask(stub.url, ["x" * 1000] * 9, concurrency=1)
    assert lengths(asked.results) == [1000] * 9
    assert [len(body["texts"]) for body in stub.bodies] == [9, 3, 3, 3]


@pytest.mark.parametrize("status", [408, 504])
def test_large_requests_that_take_too_long_are_made_smaller(stub: Stub, status: int) -> None:
    stub.reply = lambda body: (status, b"<html>", {}) if len(body["texts"]) > 150 else vectors(body)
    asked = ask(stub.url, ["a"] * 400, concurrency=1)
    assert lengths(asked.results) == [1] * 400
    assert [len(body["texts"]) for body in stub.bodies] == [400, 200, 100, 100, 100, 100]


def test_large_requests_that_are_cut_off_are_made_smaller(stub: Stub) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if len(body["texts"]) > 150:
            raise ConnectionAbortedError  # the stub hangs up
        return vectors(body)

    stub.reply = reply
    asked = ask(stub.url, ["a"] * 250, concurrency=1)
    assert lengths(asked.results) == [1] * 250
    assert [len(body["texts"]) for body in stub.bodies] == [250, 250, 250, 125, 125]
