"""Lines of the log: one per request, nothing in them that a client wrote."""

import json
import logging

import pytest

from api.access_log import JsonLine, TextLine, write_request
from api.edge import RequestRecord
from embedder.errors import ModelLoadingError
from tests.api.records import request_record


def lines(caplog: pytest.LogCaptureFixture, record: RequestRecord) -> list[dict[str, object]]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="embedding_api"):
        write_request(record)
    return [vars(line)["fields"] for line in caplog.records]


@pytest.fixture(autouse=True)
def propagated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("embedding_api"), "propagate", True)


def test_a_request_has_one_line(caplog: pytest.LogCaptureFixture) -> None:
    [fields] = lines(caplog, request_record())
    assert fields["ms"] == 1.23
    assert "error" not in fields


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_that_is_served_or_waits_for_the_model_has_none(
    caplog: pytest.LogCaptureFixture, method: str
) -> None:
    assert not lines(caplog, request_record(method=method))
    loading = request_record(method=method, status=503, reason=ModelLoadingError.reason)
    assert not lines(caplog, loading)
    assert lines(caplog, request_record(method=method, status=503, reason="stopping"))


def test_an_unexpected_error_is_named_with_its_place_and_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        raise KeyError("a text of the caller")
    except KeyError as error:
        [fields] = lines(caplog, request_record(status=500, reason="internal_error", error=error))
    assert fields["error"] == "KeyError"
    assert "test_access_log.py" in str(fields["at"])
    assert "a text of the caller" not in str(fields)


def test_a_line_break_stays_within_its_line() -> None:
    record = logging.LogRecord("embedding_api", logging.INFO, "", 0, "a\nb", (), None)
    record.fields = {"reason": "c\nd"}
    for formatter in (JsonLine(), TextLine()):
        assert "\n" not in formatter.format(record)
    assert json.loads(JsonLine().format(record))["reason"] == "c\nd"
