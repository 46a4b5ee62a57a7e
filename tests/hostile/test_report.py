"""The report names the targets that a row missed, and only those."""

from dataclasses import replace

import pytest

from hostile.report import Result, document, missed, missed_on_any_machine
from hostile.seen import Calls
from hostile.table import GROUPS, ROWS

FINE = Result(
    name="dots",
    title="dots",
    per_minute=10,
    users=1,
    seconds=3.0,
    outcomes={"422 text_too_long": 10, "429 quota_requests": 500},
    cpu_s=1.0,
    idle_mb=150.0,
    peak_mb=20.0,
    stall_ms=30.0,
    idle_stall_ms=5.0,
    requests=10,
    tokens=0,
    victim_p50_ms=6.0,
    victim_p95_ms=20.0,
    idle_p50_ms=5.0,
    idle_p95_ms=8.0,
    pack_ms=10.0,
    victim_calls=200,
    victim_failures={},
    after_mb=5.0,
    settled_s=0.5,
    restarts=0,
    notes="",
)
MACHINE = {"cpu": "a CPU", "threads": 2, "python": "3.11", "kernel": "avx2"}


def test_a_row_within_its_targets_misses_none() -> None:
    assert missed(FINE) == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"restarts": 1}, "restarted 1 times"),
        ({"victim_failures": {"503": 2}}, "not answered 200"),
        ({"peak_mb": 151.0}, "memory rose by 151 MB"),
        ({"after_mb": 51.0}, "51 MB of it stayed"),
        ({"notes": "ended early"}, "ended early"),
    ],
)
def test_a_property_that_does_not_hold_is_reported_on_any_machine(
    fault: dict[str, object], told: str
) -> None:
    [line] = missed_on_any_machine(replace(FINE, **fault))  # type: ignore[arg-type]
    assert told in line


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"stall_ms": 56.0}, "/livez stalled for 56 ms, 55 at most"),
        ({"victim_p95_ms": 35.0}, "p95 was 35 ms, 34 at most"),
    ],
)
def test_times_are_compared_with_the_idle_period(fault: dict[str, object], told: str) -> None:
    found = replace(FINE, **fault)  # type: ignore[arg-type]
    assert missed_on_any_machine(found) == []
    assert told in missed(found)[0]


def test_a_stall_ends_with_the_next_good_answer() -> None:
    calls = Calls([(0.0, 0.01, 200), (0.1, 0.2, 0), (0.4, 0.1, 503), (0.6, 0.1, 200)])
    assert calls.longest_ms == pytest.approx(600)
    assert calls.failures() == {"0": 1, "503": 1}
    assert len(calls.between(0.1, 0.6)) == 2


def test_the_document_has_a_line_for_each_row_and_fits_its_figures() -> None:
    results = {name: replace(FINE, name=name, title=row.title) for name, row in ROWS.items()}
    written = document(results, {"date": "2025-01-01", "machine": MACHINE})
    assert all(f"## {group}\n" in written for group in GROUPS)
    assert all(f"| {row.title} |" in written for row in ROWS.values())
