"""What every store of quotas promises: one set of tests, run on each."""

from __future__ import annotations

import asyncio
import uuid

from lab.signing import NOW, Clock
from quota.errors import QuotaExceeded
from quota.receipt import Receipt
from tests.quota.charging import MIDNIGHT, MakeQuota, is_refused, refused, refused_tokens, spend


async def test_limit_is_exact(make: MakeQuota, user: str) -> None:
    quota = make(requests=3)
    assert [(await quota.charge(user)).remaining for _ in range(3)] == [2, 1, 0]
    assert (await refused(quota, user)).which == "requests"


async def test_users_do_not_share_a_limit(make: MakeQuota, user: str) -> None:
    quota = make(requests=1)
    await quota.charge(user)
    assert (await quota.charge(str(uuid.uuid4()))).remaining == 0


async def test_concurrent_calls_get_exactly_the_limit(make: MakeQuota, user: str) -> None:
    quota = make(requests=7)
    outcomes = await asyncio.gather(
        *(quota.charge(user) for _ in range(100)), return_exceptions=True
    )
    left = [outcome.remaining for outcome in outcomes if isinstance(outcome, Receipt)]
    assert sorted(map(str, left)) == list("0123456")
    assert sum(isinstance(o, QuotaExceeded) for o in outcomes) == 93


async def test_window_rolls(make: MakeQuota, user: str, clock: Clock) -> None:
    """There is no burst at a new minute: each request is possible again one window later."""
    quota = make(requests=3)
    for _ in range(3):
        await quota.charge(user)
        clock.now += 10
    clock.now = NOW + 59.875
    await refused(quota, user)
    for expected in (60, 70, 80):
        clock.now = NOW + expected
        await quota.charge(user)
        await refused(quota, user)


async def test_client_that_waits_exactly_retry_after_gets_through(
    make: MakeQuota, user: str, clock: Clock
) -> None:
    quota = make(requests=2)
    for pause in (0.0, 0.125, 7.75, 13.5, 59.875, 0.5, 33.25):
        clock.now += pause
        while True:
            try:
                await quota.charge(user)
            except QuotaExceeded as refusal:
                wait = refusal.retry_after
                break
        clock.now += wait - 1.125
        await refused(quota, user)
        clock.now += 1.125
        await quota.charge(user)


async def test_refused_request_costs_nothing(make: MakeQuota, user: str, clock: Clock) -> None:
    quota = make(requests=1, tokens_per_day=100)
    await spend(quota, user, 10)
    for _ in range(50):
        await refused(quota, user)
    assert (await quota.usage(user)).tokens_remaining == 90
    clock.now += 60
    await quota.charge(user)


async def test_refused_tokens_leave_the_request_charged_and_cost_no_token(
    make: MakeQuota, user: str
) -> None:
    quota = make(requests=4, tokens_per_day=100)
    await spend(quota, user, 1)
    for _ in range(2):
        assert (await refused_tokens(quota, user, 100)).which == "tokens"
    usage = await quota.usage(user)
    assert (usage.remaining, usage.tokens_remaining) == (1, 99)


async def test_tokens_of_the_day_are_exact(make: MakeQuota, user: str) -> None:
    quota = make(requests=100, tokens_per_day=10)
    assert (await spend(quota, user, 7)).tokens_remaining == 3
    refusal = await refused_tokens(quota, user, 4)
    assert (refusal.which, refusal.receipt.tokens_remaining) == ("tokens", 3)
    assert (await spend(quota, user, 3)).tokens_remaining == 0


async def test_concurrent_requests_spend_exactly_the_tokens_of_the_day(
    make: MakeQuota, user: str
) -> None:
    quota = make(requests=100, tokens_per_day=7)
    receipts = [await quota.charge(user) for _ in range(50)]
    outcomes = await asyncio.gather(
        *(quota.spend(receipt, tokens=1) for receipt in receipts), return_exceptions=True
    )
    spent = [o.tokens_remaining for o in outcomes if isinstance(o, Receipt)]
    assert sorted(filter(None, spent), reverse=True) == [6, 5, 4, 3, 2, 1]
    assert len(spent) == 7
    assert sum(isinstance(o, QuotaExceeded) for o in outcomes) == 43


async def test_tokens_come_back_at_midnight_utc(make: MakeQuota, user: str, clock: Clock) -> None:
    quota = make(requests=100, tokens_per_day=10)
    clock.now = MIDNIGHT - 1.5
    await spend(quota, user, 10)
    refusal = await refused(quota, user)
    assert refusal.retry_after == 2
    clock.now += refusal.retry_after
    assert (await spend(quota, user, 1)).tokens_remaining == 9


async def test_tokens_spent_after_midnight_are_those_of_the_new_day(
    make: MakeQuota, user: str, clock: Clock
) -> None:
    """The request was charged before midnight."""
    quota = make(requests=100, tokens_per_day=10)
    clock.now = MIDNIGHT - 1
    await spend(quota, user, 9)
    receipt = await quota.charge(user)
    clock.now = MIDNIGHT + 1
    receipt = await quota.spend(receipt, tokens=8)
    assert receipt.tokens_remaining == 2
    assert (await quota.refund(receipt)).tokens_remaining == 10


async def test_tokens_are_not_counted_where_the_day_has_no_limit(
    make: MakeQuota, user: str
) -> None:
    quota = make(requests=3)
    receipt = await spend(quota, user, 10**9)
    assert (receipt.remaining, receipt.tokens_remaining) == (2, None)
    assert (await quota.refund(receipt)).remaining == 3


async def test_usage_is_free(make: MakeQuota, user: str) -> None:
    quota = make(requests=2, tokens_per_day=10)
    for _ in range(10):
        usage = await quota.usage(user)
    assert (usage.limit, usage.remaining, usage.reset_after) == (2, 2, 0)
    assert (usage.tokens_limit, usage.tokens_remaining) == (10, 10)


async def test_spent_day_is_refused_before_any_work(make: MakeQuota, user: str) -> None:
    quota = make(requests=100, tokens_per_day=5)
    await spend(quota, user, 4)
    await spend(quota, user, 1)
    assert (await refused(quota, user)).which == "tokens"
    assert (await quota.usage(user)).remaining == 98


async def test_clock_that_is_set_back_forgets_nothing_and_locks_nobody_out(
    make: MakeQuota, user: str, clock: Clock
) -> None:
    quota = make(requests=2)
    await quota.charge(user)
    await quota.charge(user)
    clock.now -= 3600
    waits = 0
    while await is_refused(quota, user):
        refusal = await refused(quota, user)
        assert refusal.retry_after <= 60
        clock.now += refusal.retry_after
        waits += 1
    assert 1 <= waits <= 2  # each store that counts notices the jump when it is first asked
