"""The form of an error is that of the dialect whose path was called."""

import json
from typing import Any

import pytest

from api.error_forms import error_response
from api.errors import InvalidBodyError
from auth.errors import TokenMissing
from errors import Overloaded
from gate.errors import BodyTooLarge, PathNotFound

BUSY = Overloaded("Try again.", retry_after=7)


def body(error: Exception, path: str) -> Any:
    return json.loads(bytes(error_response(error, path=path).body))


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/v1/models", "/nothing", "*", ""])
def test_other_paths_have_openais_form(path: str) -> None:
    error = body(InvalidBodyError("text: empty", param="text"), path)["error"]
    assert error == {
        "message": "text: empty",
        "type": "invalid_request_error",
        "code": "invalid_request",
        "param": "text",
    }


@pytest.mark.parametrize("path", ["/v2/embed", "/v2/nothing", "/v1/embed"])
def test_coheres_paths_have_a_message(path: str) -> None:
    assert body(BUSY, path) == {"message": "Try again."}


@pytest.mark.parametrize("path", ["/api/embed", "/api/tags", "/api/pull", "/api"])
def test_ollamas_paths_have_an_error_that_is_a_text(path: str) -> None:
    assert body(BUSY, path) == {"error": "Try again."}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BUSY, "Overloaded"),
        (BodyTooLarge(limit=10), "Validation"),
        (PathNotFound(), "Validation"),
        (RuntimeError("private"), "Backend"),
    ],
)
@pytest.mark.parametrize("path", ["/tei", "/tei/embed", "/tei/rerank"])
def test_teis_paths_have_an_error_and_its_type(error: Exception, kind: str, path: str) -> None:
    assert body(error, path)["error_type"] == kind
    assert "private" not in body(error, path)["error"]


@pytest.mark.parametrize("path", ["/embed", "/v2/embed", "/api/embed", "/tei/embed"])
def test_status_and_headers_are_the_same_in_every_form(path: str) -> None:
    busy, missing = (error_response(error, path=path) for error in (BUSY, TokenMissing("No")))
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "7")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"].startswith("Bearer")
