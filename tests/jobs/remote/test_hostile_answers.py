"""Endless, compressed or invalid answers end a job with one line, in bounded memory."""

import base64
import gzip
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import UsageError
from tests.jobs.remote.remote_job import (
    MB,
    assert_one_line,
    assert_printable,
    run,
    send_head,
    service_with,
)
from tests.jobs.remote.stub_service import CARD, Stub, ask, lengths, served, vectors


def vector(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


@pytest.mark.parametrize("path", ["card", "vectors"])
def test_an_endless_answer_is_read_up_to_its_limit(tmp_path: Path, path: str) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        send_head(handler, ("Connection", "close"))
        try:
            while True:
                handler.wfile.write(b"[" * MB)
        except OSError:
            pass

    answer = service_with(endless) if path == "vectors" else lambda handler, _: endless(handler)
    with served(answer) as url:
        ran = run(url, tmp_path, "--quiet")
    assert_one_line(ran, "the answer of the service is longer than the")
    assert ran.peak < 200


def test_a_compressed_answer_is_not_decompressed(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * 300 * MB, 1)

    def packed(handler: BaseHTTPRequestHandler) -> None:
        send_head(handler, ("Content-Encoding", "gzip"), ("Content-Length", str(len(bomb))))
        handler.wfile.write(bomb)

    with served(service_with(packed)) as url:
        ran = run(url, tmp_path, "--quiet")
    assert_one_line(ran, "the answer of the service is compressed, which was not asked for")
    assert ran.peak < 200


FINE = {"embeddings": [vector(1, 0)] * 3, "tokens": [1] * 3, "windows": [1] * 3, "truncated": []}
WRONG: dict[str, tuple[object, str]] = {
    "NaN": (FINE | {"embeddings": [vector(1, float("nan"))] * 3}, "a vector that is not finite"),
    "infinite": (FINE | {"embeddings": [vector(1, float("inf"))] * 3}, "not finite"),
    "another size": (
        FINE | {"embeddings": [vector(1, 0, 0)] * 3},
        "a vector of 3 dimensions instead of 2",
    ),
    "none": (FINE | {"embeddings": [""] * 3}, "a vector of 0 dimensions instead of 2"),
    "a byte too many": (FINE | {"embeddings": ["AAAAAAAAAAAA"] * 3}, "cannot be used"),
    "not base64": (FINE | {"embeddings": ["\x1b[2J"] * 3}, "cannot be used"),
    "numbers": (FINE | {"embeddings": [[1.0, 0.0]] * 3}, "cannot be used"),
    "too few": (FINE | {"embeddings": [vector(1, 0)] * 2}, "2 vectors and 3 counts for 3 texts"),
    "too many": (FINE | {"embeddings": [vector(1, 0)] * 4}, "4 vectors and 3 counts for 3 texts"),
    "negative tokens": (FINE | {"tokens": [1, 1, -1]}, "invalid counts"),
    "tokens beyond int32": (FINE | {"tokens": [1, 1, 2**31]}, "invalid counts"),
    "negative windows": (FINE | {"windows": [1, 1, -1]}, "invalid counts"),
    "too few windows": (FINE | {"windows": [1, 1]}, "cannot be used"),
    "an index out of range": (FINE | {"truncated": [3]}, "invalid indices of truncated texts"),
    "indices that are lists": (FINE | {"truncated": [[]]}, "cannot be used"),
    "nothing": ({}, "cannot be used"),
    "a list": ([], "cannot be used"),
    "a page": (b"<html>\x1b[2J", "cannot be used"),
    "deep": (b"[" * 50_000, "cannot be used"),
    "a long number": (b'{"tokens": ' + b"9" * 50_000 + b"}", "cannot be used"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_vectors_end_the_job(stub: Stub, tmp_path: Path, name: str) -> None:
    content, said = WRONG[name]
    stub.reply = lambda _: (200, content, {})
    ran = run(stub.url, tmp_path, "--quiet")
    assert_one_line(ran, said)
    assert_printable(ran.said)


CARDS: dict[str, tuple[object, dict[str, str]]] = {
    "endless vectors": ({"data": [{"max_tokens": 1, "dimensions": [10**9]}]}, {}),
    "no vectors": ({"data": [{"max_tokens": 1, "dimensions": []}]}, {}),
    "negative": ({"data": [{"max_tokens": 1, "dimensions": [-1]}]}, {}),
    "not a number": ({"data": [{"max_tokens": "1", "dimensions": [2]}]}, {}),
    "not a list": ({"data": [{"max_tokens": 1, "dimensions": 2}]}, {}),
    "no fingerprint": (CARD, {"X-Embedding-Fingerprint": ""}),
    "an invalid fingerprint": (CARD, {"X-Embedding-Fingerprint": "a b\xe9"}),
    "deep": (b"[" * 50_000, {}),
}


@pytest.mark.parametrize("name", CARDS)
def test_an_invalid_model_card_is_refused(name: str) -> None:
    card, headers = CARDS[name]
    content = card if isinstance(card, bytes) else json.dumps(card).encode()

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        given = {"X-Embedding-Fingerprint": "f", "Content-Length": str(len(content))} | headers
        send_head(handler, *given.items())
        handler.wfile.write(content)

    with (
        served(answer) as url,
        pytest.raises(UsageError, match="is not the URL of an embedding-api"),
    ):
        ask(url, ["a"])


def test_a_job_resumes_where_a_hostile_answer_ended_it(stub: Stub, tmp_path: Path) -> None:
    stub.reply = lambda _: (200, WRONG["NaN"][0], {})
    assert run(stub.url, tmp_path, "--quiet").status == 1
    stub.reply = vectors
    ran = run(stub.url, tmp_path, "--quiet")
    assert (ran.status, ran.parts) == (0, ["part-00000000.parquet"])
    assert lengths(ask(stub.url, ["abc"]).results) == [3]
