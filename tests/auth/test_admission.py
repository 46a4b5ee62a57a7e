"""Bounds on calls, users, failures and bodies."""

from __future__ import annotations

import pytest

from auth.admission import MAX_ADDRESSES, FailureBudget, PerUser, read_body, replay
from auth.errors import TooManyFailures
from tests.auth.signing import Clock


def test_budget_remembers_a_bounded_number_of_addresses(clock: Clock) -> None:
    budget = FailureBudget(1, clock=clock)
    for n in range(3 * MAX_ADDRESSES):
        budget.record(f"2001:db8:0:{n:x}::/64")
    assert len(budget._failures) == MAX_ADDRESSES
    with pytest.raises(TooManyFailures):
        budget.check(f"2001:db8:0:{3 * MAX_ADDRESSES - 1:x}::/64")


def test_budget_of_the_noisiest_address_survives_a_flood_of_others(clock: Clock) -> None:
    budget = FailureBudget(10, clock=clock)
    for n in range(2 * MAX_ADDRESSES):
        budget.record("192.0.2.1")
        budget.record(f"2001:db8:0:{n:x}::/64")
    with pytest.raises(TooManyFailures):
        budget.check("192.0.2.1")


def test_budget_starts_anew_each_minute(clock: Clock) -> None:
    budget = FailureBudget(2, clock=clock)
    for _ in range(3):
        budget.record("192.0.2.1")
        budget.check("192.0.2.1")
        budget.record("192.0.2.1")
        with pytest.raises(TooManyFailures) as refusal:
            budget.check("192.0.2.1")
        clock.now += refusal.value.retry_after


def test_users_without_a_call_leave_nothing_behind() -> None:
    calls = PerUser(2)
    for n in range(1000):
        with calls.hold(str(n)):
            pass
    assert not calls._calls


async def test_body_is_handed_on_once_and_then_the_server_speaks() -> None:
    async def server() -> dict[str, str]:
        return {"type": "http.disconnect"}

    receive = replay(b"body", server)
    assert [await receive() for _ in range(3)] == [
        {"type": "http.request", "body": b"body", "more_body": False},
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]


async def test_empty_body_is_whole() -> None:
    async def server() -> dict[str, object]:
        return {"type": "http.request"}

    assert await read_body(server, limit=0, seconds=1.0) == b""
