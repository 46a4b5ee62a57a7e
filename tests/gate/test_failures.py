"""Failed tokens of one address: how many get their own error, and how many are verified."""

from __future__ import annotations

import pytest

from gate.errors import TooManyFailures
from gate.failures import LOOKS, MAX_ADDRESSES, TRUSTED, WINDOW, FailureBudget
from lab.signing import Clock

ADDRESS = "192.0.2.1"


def fail(budget: FailureBudget, times: int, address: str = ADDRESS) -> list[bool]:
    """Whether each failure exceeded the limit."""
    over = []
    for _ in range(times):
        try:
            budget.failed(address)
        except TooManyFailures:
            over.append(True)
        else:
            over.append(False)
    return over


def is_verified(budget: FailureBudget, address: str = ADDRESS) -> bool:
    try:
        budget.check(address)
    except TooManyFailures:
        return False
    return True


def test_failures_beyond_the_budget_are_told_to_wait(clock: Clock) -> None:
    budget = FailureBudget(3, clock=clock)
    assert fail(budget, 5) == [False, False, False, True, True]


def test_tokens_are_verified_until_far_more_have_failed(clock: Clock) -> None:
    budget = FailureBudget(3, clock=clock)
    fail(budget, 3 * LOOKS - 1)
    assert is_verified(budget)
    fail(budget, 1)
    clock.now += 20
    with pytest.raises(TooManyFailures) as refusal:
        budget.check(ADDRESS)
    assert refusal.value.retry_after == WINDOW - 20


def test_every_token_is_verified_where_a_good_one_came_from_lately(clock: Clock) -> None:
    budget = FailureBudget(1, clock=clock)
    budget.succeeded(ADDRESS)
    for _ in range(int(TRUSTED)):
        fail(budget, 100)
        assert is_verified(budget)
        clock.now += 1
    fail(budget, 100)
    assert not is_verified(budget)


def test_each_minute_begins_with_a_whole_budget(clock: Clock) -> None:
    budget = FailureBudget(2, clock=clock)
    for _ in range(3):
        assert fail(budget, 2 * LOOKS) == [False] * 2 + [True] * (2 * LOOKS - 2)
        assert not is_verified(budget)
        clock.now += WINDOW
        assert is_verified(budget)


def test_a_bounded_number_of_addresses_is_remembered(clock: Clock) -> None:
    budget = FailureBudget(1, clock=clock)
    for n in range(3 * MAX_ADDRESSES):
        budget.failed(f"2001:db8:0:{n:x}::/64")
        budget.succeeded(f"2001:db8:1:{n:x}::/64")
    assert len(budget._failures) == len(budget._good) == MAX_ADDRESSES


def test_the_noisiest_address_is_remembered_through_a_flood_of_others(clock: Clock) -> None:
    budget = FailureBudget(10, clock=clock)
    for n in range(2 * MAX_ADDRESSES):
        fail(budget, 1)
        budget.failed(f"2001:db8:0:{n:x}::/64")
    assert not is_verified(budget)
