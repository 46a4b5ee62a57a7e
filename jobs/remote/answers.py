"""Answers of the service, checked: they may come from anybody on the network."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from embedder.postprocess import Vectors
from jobs.errors import JobError, RowError, UsageError, one_line, printable

MOST_DIMENSIONS = 65_536
FINGERPRINT = re.compile(r"[!-~]{1,200}")
TEXT_BYTES = 64  # of an answer, for each text besides its vector: tokens and two lists of places
OTHER_BYTES = 65_536  # of an answer besides its texts, and of one without any


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. The body of a refusal may be cut."""

    status: int
    body: bytes
    fingerprint: str
    retry_after: float | None  # seconds


@dataclass(frozen=True, slots=True)
class Card:
    """The model that a service serves."""

    fingerprint: str
    max_tokens: int
    dimensions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service gave for one text."""

    vector: np.ndarray[Any, np.dtype[np.float32]]
    tokens: int
    truncated: bool


Result = Answer | RowError


class Complaint(NamedTuple):
    """Why a request was refused, by the service or a proxy; `param` is the field at fault."""

    code: str
    message: str
    param: str | None


def answer_bytes(n_texts: int, dimensions: int) -> int:
    """How long an answer may be: each vector as float32 in base64."""
    return OTHER_BYTES + n_texts * (TEXT_BYTES + dimensions * 16 // 3 + 4)


def card_of(url: str, reply: Reply) -> Card:
    """Raises UsageError when this is not the answer of a service."""
    try:
        card = json.loads(reply.body)["data"][0]
        found = Card(reply.fingerprint, card["max_tokens"], card["dimensions"])
        sizes = [*found.dimensions, found.max_tokens]
        right = all(type(size) is int and size > 0 for size in sizes) and found.dimensions
        if not right or max(found.dimensions) > MOST_DIMENSIONS:
            raise ValueError("sizes that no model has")
        if not FINGERPRINT.fullmatch(found.fingerprint):
            raise ValueError("no fingerprint")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{url} is not the URL of this service: /v1/models answers something else"
        ) from error
    return found


def answers_of(reply: Reply, n_texts: int, dimensions: int) -> list[Answer]:
    """One per text. Raises JobError for what no service of this kind answers."""
    try:
        body = json.loads(reply.body)
        vectors = [_vector(text, dimensions) for text in body["embeddings"]]
        tokens, truncated = body["tokens"], set(body["truncated"])
        if not len(vectors) == len(tokens) == n_texts:
            raise ValueError(f"{len(vectors)} vectors and {len(tokens)} counts for {n_texts} texts")
        if any(type(count) is not int or not 0 <= count < 2**31 for count in tokens):
            raise ValueError("counts of tokens that are none")
        if not truncated <= set(range(n_texts)):
            raise ValueError("places of texts that are none")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise JobError(
            f"the answer of the service cannot be used ({printable(one_line(error))}): see that URL "
            "is that of an embedding-api, and the same command goes on"
        ) from error
    return [
        Answer(vector, count, index in truncated)
        for index, (vector, count) in enumerate(zip(vectors, tokens, strict=True))
    ]


def _vector(text: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    if len(vector) != dimensions:
        raise ValueError(f"a vector of {len(vector)} dimensions instead of {dimensions}")
    if not np.isfinite(vector).all():
        raise ValueError("a vector that is not finite")
    return vector


def stack(answers: Sequence[Answer], dimensions: int) -> Vectors:
    """(n, dimensions) float32, also of none."""
    vectors = [answer.vector for answer in answers]
    return np.stack(vectors) if vectors else np.empty((0, dimensions), np.float32)


def complaint_of(reply: Reply) -> Complaint:
    """Its message can be shown to people: no control characters, and not long."""
    try:
        error = json.loads(reply.body)["error"]
        param = error.get("param")
        return Complaint(
            str(error["code"]),
            printable(str(error["message"])),
            param if isinstance(param, str) else None,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Complaint("", f"status {reply.status}", None)


def check(reply: Reply) -> None:
    """Raises JobError with what to do about an answer that ends the job."""
    if reply.status == 200:
        return
    message = complaint_of(reply).message
    advice = {
        401: "put a valid access token in JWT_TOKEN, and the same command goes on",
        404: "see that URL is that of the service, without a path",
        409: "another model is served now than when this job began",
    }.get(reply.status, "the same command goes on once that is mended")
    raise JobError(f"the service answers {reply.status} ({message}): {advice}")
