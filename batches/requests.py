"""Lines of an input file -> requests, and the lines of the files that answer them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from batches.answering import Answered
from batches.errors import LineFault

MAX_CUSTOM_ID = 512  # characters
_REQUIRED = ("custom_id", "method", "url", "body")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


def request_of(fields: Any, *, endpoint: str) -> BatchRequest:
    """The request of a line.

    Args:
        fields: the line as JSON.
        endpoint: of the batch.

    Raises:
        LineFault: it is none, or one for another endpoint.
    """
    if not isinstance(fields, dict):
        raise LineFault("invalid_json_line", "This line is not a JSON object. Send one per line.")
    for name in _REQUIRED:
        if fields.get(name) is None:
            raise LineFault(
                "missing_required_parameter", f"{name}: this field is required.", param=name
            )
    custom_id, body = fields["custom_id"], fields["body"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        raise LineFault(
            "invalid_custom_id",
            f"custom_id: send a string of 1 to {MAX_CUSTOM_ID} characters.",
            param="custom_id",
        )
    if fields["method"] != "POST":
        raise LineFault("invalid_method", "method: requests of a batch are POST.", param="method")
    if fields["url"] != endpoint:
        raise LineFault(
            "invalid_url", f"url: the endpoint of this batch is {endpoint}.", param="url"
        )
    if not isinstance(body, dict):
        raise LineFault("invalid_type", "body: send a JSON object.", param="body")
    return BatchRequest(custom_id, body)


def answered_line(request: BatchRequest, answered: Answered) -> Iterator[bytes]:
    """The line of a request that was answered, with a status of HTTP, in pieces."""
    head = orjson.dumps({"id": _line_id(), "custom_id": request.custom_id})
    response = orjson.dumps({"status_code": answered.status, "request_id": answered.request_id})
    yield head[:-1] + b',"response":' + response[:-1] + b',"body":'
    yield from answered.body()
    yield b'},"error":null}\n'


def unanswered_line(custom_id: str | None, *, code: str, message: str) -> bytes:
    """The line of a request that was not answered, and why."""
    error = {"code": code, "message": message}
    line = {"id": _line_id(), "custom_id": custom_id, "response": None, "error": error}
    return orjson.dumps(line) + b"\n"


def _line_id() -> str:
    return f"batch_req_{secrets.token_hex(12)}"
