"""Parse and check answers of the service, which are untrusted input from the network."""

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
TEXT_BYTES = 64  # of an answer per text, besides its vector: counts and indices
OTHER_BYTES = 65_536  # of an answer, besides its texts


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. The body of a refusal may be truncated."""

    status: int
    body: bytes
    fingerprint: str
    retry_after: float | None  # seconds


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The model that the service serves."""

    fingerprint: str
    max_tokens: int
    dimensions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one text."""

    vector: np.ndarray[Any, np.dtype[np.float32]]
    tokens: int
    windows: int
    truncated: bool


Result = Answer | RowError


class Refusal(NamedTuple):
    """Why the service or a proxy refused a request; `param` names the wrong field."""

    code: str
    message: str
    param: str | None


def answer_bytes(n_texts: int, dimensions: int) -> int:
    """The most bytes that an answer may have, with each vector as float32 in base64."""
    return OTHER_BYTES + n_texts * (TEXT_BYTES + dimensions * 16 // 3 + 4)


def card_of(url: str, reply: Reply) -> ModelCard:
    """Parse the answer of /v1/models.

    Raises:
        UsageError: it is not the answer of this service.
    """
    try:
        card = json.loads(reply.body)["data"][0]
        found = ModelCard(reply.fingerprint, card["max_tokens"], card["dimensions"])
        sizes = [*found.dimensions, found.max_tokens]
        right = all(type(size) is int and size > 0 for size in sizes) and found.dimensions
        if not right or max(found.dimensions) > MOST_DIMENSIONS:
            raise ValueError("invalid sizes")
        if not FINGERPRINT.fullmatch(found.fingerprint):
            raise ValueError("no fingerprint")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{url} is not the URL of an embedding-api: /v1/models gives another answer"
        ) from error
    return found


def answers_of(reply: Reply, n_texts: int, dimensions: int) -> list[Answer]:
    """Parse the answer of /batch-embed, one result per text.

    Raises:
        JobError: it is not a valid answer.
    """
    try:
        body = json.loads(reply.body)
        vectors = [_vector(text, dimensions) for text in body["embeddings"]]
        tokens, windows = body["tokens"], body["windows"]
        truncated = set(body["truncated"])
        if not len(vectors) == len(tokens) == len(windows) == n_texts:
            raise ValueError(f"{len(vectors)} vectors and {len(tokens)} counts for {n_texts} texts")
        if any(type(count) is not int or not 0 <= count < 2**31 for count in [*tokens, *windows]):
            raise ValueError("invalid counts")
        if not truncated <= set(range(n_texts)):
            raise ValueError("invalid indices of truncated texts")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise JobError(
            f"the answer of the service cannot be used ({printable(one_line(error))}): check that "
            "URL is that of an embedding-api, then run the same command again"
        ) from error
    return [
        Answer(vector, n_tokens, n_windows, index in truncated)
        for index, (vector, n_tokens, n_windows) in enumerate(
            zip(vectors, tokens, windows, strict=True)
        )
    ]


def _vector(text: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    if len(vector) != dimensions:
        raise ValueError(f"a vector of {len(vector)} dimensions instead of {dimensions}")
    if not np.isfinite(vector).all():
        raise ValueError("a vector that is not finite")
    return vector


def stack(answers: Sequence[Answer], dimensions: int) -> Vectors:
    """The vectors as one array: (n, dimensions) float32, also for n = 0."""
    vectors = [answer.vector for answer in answers]
    return np.stack(vectors) if vectors else np.empty((0, dimensions), np.float32)


def refusal_of(reply: Reply) -> Refusal:
    """The refusal in an answer. Its message is safe to print: short, no control characters."""
    try:
        error = json.loads(reply.body)["error"]
        param = error.get("param")
        return Refusal(
            str(error["code"]),
            printable(str(error["message"])),
            param if isinstance(param, str) else None,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Refusal("", f"status {reply.status}", None)


def check(reply: Reply) -> None:
    """Raises JobError, with advice, for an answer that ends the job."""
    if reply.status == 200:
        return
    message = refusal_of(reply).message
    advice = {
        401: "put a valid access token in JWT_TOKEN and run the same command again",
        404: "check that URL is the URL of the service, without a path",
        409: "the service now serves another model than when this job began",
    }.get(reply.status, "the same command resumes the job once this is fixed")
    raise JobError(f"the service answers {reply.status} ({message}): {advice}")
