"""How many texts and bytes a request has, and how refusals make later ones smaller."""

import json
from typing import Any

import pytest

from jobs.errors import RowError
from jobs.remote import http_client
from jobs.remote.answers import Answer
from tests.jobs.remote.stub_service import (
    Reply,
    Stub,
    ask,
    lengths,
    refusal,
    replies,
    vectors,
)


def test_a_refused_text_or_title_is_a_bad_row_and_leaves_later_batches_as_large(
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


def test_every_wrong_text_of_a_request_is_a_bad_row(stub: Stub) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        wrong = [n for n, text in enumerate(body["texts"]) if int(text) >= 100]
        message = f"text {wrong[0]} has 300 tokens" if wrong else ""
        param = f"texts.{wrong[0]}" if wrong else None
        return refusal(422, "text_too_long", param, message=message) if wrong else vectors(body)

    stub.reply = reply
    texts = [f"{n}" for n in range(300)]
    results = ask(stub.url, texts, concurrency=1).results
    bad = [(n, str(result)) for n, result in enumerate(results) if isinstance(result, RowError)]
    assert bad == [(n, "the text has 300 tokens") for n in range(100, 300)]
    assert len(stub.bodies) == 201


def test_a_batch_of_too_many_texts_makes_later_ones_smaller(stub: Stub) -> None:
    stub.reply = lambda body: (
        vectors(body) if len(body["texts"]) < 3 else refusal(422, "invalid_request", "texts")
    )
    asked = ask(stub.url, ["a", "bb", "ccc", "dddd"], times=2, concurrency=1)
    assert lengths(asked.results) == [1, 2, 3, 4]
    assert [len(body["texts"]) for body in stub.bodies] == [4, 2, 2, 2, 2]


@pytest.mark.parametrize("truncated", [True, False])
def test_a_text_larger_than_a_body_is_halved_if_the_model_truncates_it_anyway(
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
def test_later_requests_keep_the_limit_of_a_refusal(
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


def test_later_bodies_keep_the_limit_of_a_refusal(stub: Stub) -> None:
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


def test_large_requests_whose_connection_breaks_are_made_smaller(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "LEAST_WAIT", 0.05)

    def reply(body: dict[str, Any]) -> Reply:
        if len(body["texts"]) > 150:
            raise ConnectionAbortedError  # the stub hangs up
        return vectors(body)

    stub.reply = reply
    asked = ask(stub.url, ["a"] * 250, concurrency=1)
    assert lengths(asked.results) == [1] * 250
    assert [len(body["texts"]) for body in stub.bodies] == [250, 250, 250, 125, 125]
