"""What requests and forward passes add to the metrics."""

import pytest

import metrics
from auth.errors import TokenMissing
from embedder.batcher import PackReport
from recording import record_pack, record_request
from tests.api.records import request_record


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_only_what_was_served_has_a_duration() -> None:
    for status in (200, 422, 503, 0):
        record_request(request_record(status=status), open_to_all=())
    assert value("embed_request_duration_seconds_count", route="/recorded") == 1
    assert value("embed_requests_total", route="/recorded", status="422") == 1


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({}, "admitted"),
        (
            {"caller": None, "user": None, "error": TokenMissing("send one"), "status": 401},
            "token_missing",
        ),
    ],
)
def test_what_the_gate_decided_is_counted(changes: dict[str, object], decision: str) -> None:
    before = value("embed_gate_decisions_total", decision=decision)
    record_request(request_record(**changes), open_to_all=())
    record_request(request_record(**changes), open_to_all=("/recorded",))
    assert value("embed_gate_decisions_total", decision=decision) == before + 1


def test_a_forward_pass_is_counted_by_what_it_held() -> None:
    before = value("embed_batch_texts_sum")
    record_pack(PackReport(texts=3, tokens=64, seconds=0.1, waited=0.2), batch_tokens=128)
    assert value("embed_batch_texts_sum") == before + 3
    assert value("embed_batch_fill_ratio_sum") >= 0.5
