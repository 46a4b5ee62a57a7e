"""embed_remote in a process of its own against an HTTP server that means harm."""

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import JobError, UsageError
from jobs.remote import exchange
from lab.server import ROOT
from tests.jobs.conftest import write_jsonl
from tests.jobs.remote.stub_service import CARD, Stub, ask, lengths, refusal, served, vectors

MB = 1_000_000
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b1m\r\n"
MAIN = """
import sys
from pathlib import Path
from jobs.command import run_command
from jobs.embed_remote import main
status = run_command(main)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print("peak", peak.split()[1], flush=True)
sys.exit(status)
"""


@dataclass(frozen=True)
class Ran:
    status: int
    said: str  # on stderr
    peak: float  # MB
    parts: list[str]
    bad: str


def run(url: str, directory: Path, *options: str, rows: int = 3) -> Ran:
    source = write_jsonl(directory / "a.jsonl", [{"text": f"text {n}"} for n in range(rows)])
    output = directory / "out"
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, url, str(source), str(output), *options],
        cwd=ROOT,
        env=os.environ | {"JWT_TOKEN": "token"},
        capture_output=True,
        timeout=120,
    )
    [peak] = [line for line in ran.stdout.decode().splitlines() if line.startswith("peak ")]
    parts = sorted(path.name for path in output.glob("part-*"))
    bad = output / "_bad_rows.jsonl"
    said = ran.stderr.decode()
    return Ran(
        ran.returncode,
        said,
        int(peak.split()[1]) * 1024 / MB,
        parts,
        bad.read_text() if bad.exists() else "",
    )


def assert_told(ran: Ran, said: str) -> None:
    assert (ran.status, ran.parts) == (1, []), ran.said
    assert said in ran.said
    assert len(ran.said.splitlines()) == 1


def head(handler: BaseHTTPRequestHandler, *headers: tuple[str, str]) -> None:
    handler.send_response(200)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()


def card_and(embed: Callable[[BaseHTTPRequestHandler], None]) -> Any:
    """A service whose card is fine and whose vectors are what `embed` writes."""

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        if handler.path != "/v1/models":
            embed(handler)
            return
        content = json.dumps(CARD).encode()
        head(handler, ("X-Embedding-Fingerprint", "f"), ("Content-Length", str(len(content))))
        handler.wfile.write(content)

    return answer


@pytest.mark.parametrize("path", ["card", "vectors"])
def test_an_endless_answer_is_read_no_further_than_it_may_be_long(
    tmp_path: Path, path: str
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        head(handler, ("Connection", "close"))
        try:
            while True:
                handler.wfile.write(b"[" * MB)
        except OSError:
            pass

    answer = card_and(endless) if path == "vectors" else lambda handler, _: endless(handler)
    with served(answer) as url:
        ran = run(url, tmp_path, "--quiet")
    assert_told(ran, "the answer of the service is longer than the")
    assert ran.peak < 200


def test_a_packed_answer_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * 300 * MB, 1)

    def packed(handler: BaseHTTPRequestHandler) -> None:
        head(handler, ("Content-Encoding", "gzip"), ("Content-Length", str(len(bomb))))
        handler.wfile.write(bomb)

    with served(card_and(packed)) as url:
        ran = run(url, tmp_path, "--quiet")
    assert_told(ran, "the answer of the service is compressed, which was not asked for")
    assert ran.peak < 200


def vector(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


FINE = {"embeddings": [vector(1, 0)] * 3, "tokens": [1] * 3, "truncated": []}
WRONG: dict[str, tuple[object, str]] = {
    "NaN": (FINE | {"embeddings": [vector(1, float("nan"))] * 3}, "a vector that is not finite"),
    "infinite": (FINE | {"embeddings": [vector(1, float("inf"))] * 3}, "not finite"),
    "another size": (
        FINE | {"embeddings": [vector(1, 0, 0)] * 3},
        "a vector of 3 dimensions instead of 2",
    ),
    "none": (FINE | {"embeddings": [""] * 3}, "a vector of 0 dimensions instead of 2"),
    "a byte too many": (FINE | {"embeddings": ["AAAAAAAAAAAA"] * 3}, "cannot be used"),
    "no base64": (FINE | {"embeddings": ["\x1b[2J"] * 3}, "cannot be used"),
    "numbers": (FINE | {"embeddings": [[1.0, 0.0]] * 3}, "cannot be used"),
    "too few": (FINE | {"embeddings": [vector(1, 0)] * 2}, "2 vectors and 3 counts for 3 texts"),
    "too many": (FINE | {"embeddings": [vector(1, 0)] * 4}, "4 vectors and 3 counts for 3 texts"),
    "tokens that are none": (FINE | {"tokens": [1, 1, -1]}, "counts of tokens that are none"),
    "tokens that no column holds": (FINE | {"tokens": [1, 1, 2**31]}, "counts of tokens"),
    "places that are none": (FINE | {"truncated": [3]}, "places of texts that are none"),
    "places that are lists": (FINE | {"truncated": [[]]}, "cannot be used"),
    "nothing": ({}, "cannot be used"),
    "a list": ([], "cannot be used"),
    "a page": (b"<html>\x1b[2J", "cannot be used"),
    "deep": (b"[" * 50_000, "cannot be used"),
    "a long number": (b'{"tokens": ' + b"9" * 50_000 + b"}", "cannot be used"),
}


@pytest.mark.parametrize("name", WRONG)
def test_vectors_that_are_none_end_the_job(stub: Stub, tmp_path: Path, name: str) -> None:
    content, said = WRONG[name]
    stub.reply = lambda _: (200, content, {})
    ran = run(stub.url, tmp_path, "--quiet")
    assert_told(ran, said)
    assert_harmless(ran.said)


CARDS: dict[str, tuple[object, dict[str, str]]] = {
    "endless vectors": ({"data": [{"max_tokens": 1, "dimensions": [10**9]}]}, {}),
    "no vectors": ({"data": [{"max_tokens": 1, "dimensions": []}]}, {}),
    "negative": ({"data": [{"max_tokens": 1, "dimensions": [-1]}]}, {}),
    "no number": ({"data": [{"max_tokens": "1", "dimensions": [2]}]}, {}),
    "no list": ({"data": [{"max_tokens": 1, "dimensions": 2}]}, {}),
    "no fingerprint": (CARD, {"X-Embedding-Fingerprint": ""}),
    "a fingerprint that is no word": (CARD, {"X-Embedding-Fingerprint": "a b\xe9"}),
    "deep": (b"[" * 50_000, {}),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_model_that_is_none_is_no_service(name: str) -> None:
    card, headers = CARDS[name]
    content = card if isinstance(card, bytes) else json.dumps(card).encode()

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        given = {"X-Embedding-Fingerprint": "f", "Content-Length": str(len(content))} | headers
        head(handler, *given.items())
        handler.wfile.write(content)

    with served(answer) as url, pytest.raises(UsageError, match="is not the URL of this service"):
        ask(url, ["a"])


def assert_harmless(said: str) -> None:
    """Nothing that a terminal takes for an order."""
    assert not [char for char in said if not char.isprintable() and char != "\n"], ascii(said)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 418, 500])
def test_no_message_gives_orders_to_a_terminal(stub: Stub, tmp_path: Path, status: int) -> None:
    stub.reply = lambda _: refusal(status, ESCAPES, message=ESCAPES * 1000)
    ran = run(stub.url, tmp_path, "--quiet")
    assert_told(ran, rf"the service answers {status} (\x1b]0;owned\x07\x1b[2J\x9b1m\r\n")
    assert_harmless(ran.said)
    assert len(ran.said) < 1000


def test_no_reason_of_a_row_or_of_a_wait_gives_orders_to_a_terminal(
    stub: Stub, tmp_path: Path
) -> None:
    def reply(body: dict[str, Any]) -> Any:
        if len(stub.bodies) == 1:
            return refusal(429, ESCAPES, message=ESCAPES, Retry_After="2")
        return refusal(422, "text_too_long", "texts.0", message=ESCAPES)

    stub.reply = reply
    ran = run(stub.url, tmp_path)
    assert ran.status == 3
    assert "status 429, \\x1b]0;owned" in ran.said
    assert_harmless(ran.said.replace("\r", "\n"))  # the bar begins its line again
    assert_harmless(ran.bad)
    assert ran.bad.count("\n") == 3


@pytest.mark.parametrize("told", ["0", "0.0", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"])
def test_a_service_that_says_come_back_at_once_is_not_asked_at_once(
    stub: Stub, tmp_path: Path, told: str
) -> None:
    stub.reply = lambda _: refusal(429, "quota_requests", Retry_After=told)
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs.embed_remote", stub.url, str(source), str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"JWT_TOKEN": "token"},
        stderr=subprocess.DEVNULL,
    )
    try:
        while not stub.bodies:
            assert job.poll() is None
            time.sleep(0.05)
        time.sleep(4)
    finally:
        job.kill()
        job.wait()
    assert len(stub.bodies) <= 3  # after 1 s and 2 s more


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("3", 3),
        ("9" * 400, exchange.LONGEST_TOLD),
        ("Fri, 31 Dec 9999 23:59:59 GMT", exchange.LONGEST_TOLD),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("\u00b2", None),
        ("-1", None),
        ("inf", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("", None),
    ],
)
def test_no_retry_after_is_waited_for_longer_than_a_day(told: str, seconds: float | None) -> None:
    assert exchange._retry_after(told) == seconds


@pytest.mark.parametrize("part", ["head", "body", "informational"])
def test_an_answer_that_never_ends_is_given_up(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "DEADLINE", 0.5)
    monkeypatch.setattr(exchange, "OUTAGE", 0.0)
    over = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        if part == "body":
            head(handler, ("Content-Length", "1000000"))
        line = {"head": b"HTTP/1.1 200", "body": b"{", "informational": b"HTTP/1.1 103 E\r\n\r\n"}
        try:
            while not over.wait(0.05):
                handler.wfile.write(line[part][: 1 if part == "head" else None])
                handler.wfile.flush()
        except OSError:
            pass

    with served(card_and(slow)) as url:
        try:
            with pytest.raises(JobError, match="does not answer"):
                ask(url, ["a"])
        finally:
            over.set()


def test_a_url_with_a_password_and_a_token_with_spaces_are_not_shown(tmp_path: Path) -> None:
    for url, token in [
        ("http://user:hush@127.0.0.1:1", "token"),
        ("http://127.0.0.1:1", "hu sh\n"),
    ]:
        (tmp_path / "a.txt").write_text("a\n")
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "jobs.embed_remote",
                url,
                str(tmp_path / "a.txt"),
                str(tmp_path / "out"),
            ],
            cwd=ROOT,
            env=os.environ | {"JWT_TOKEN": token},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 2
        assert "hu" not in ran.stderr.replace("should", "")


def test_a_job_goes_on_where_a_hostile_answer_ended_it(stub: Stub, tmp_path: Path) -> None:
    stub.reply = lambda _: (200, WRONG["NaN"][0], {})
    assert run(stub.url, tmp_path, "--quiet").status == 1
    stub.reply = vectors
    ran = run(stub.url, tmp_path, "--quiet")
    assert (ran.status, ran.parts) == (0, ["part-00000000.parquet"])
    assert lengths(ask(stub.url, ["abc"]).results) == [3]
