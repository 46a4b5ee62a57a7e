"""Refunds, on every store of quotas."""

from __future__ import annotations

import uuid

from lab.signing import Clock
from quota.receipt import part_of, tokens_alone, without
from tests.quota.charging import MIDNIGHT, MakeQuota, spend


async def test_refund_gives_back_the_request_and_its_tokens(make: MakeQuota, user: str) -> None:
    quota = make(requests=1, tokens_per_day=10)
    receipt = await spend(quota, user, 10)
    left = await quota.refund(receipt)
    assert (left.remaining, left.tokens_remaining) == (1, 10)
    assert (await quota.usage(user)).tokens_remaining == 10
    assert (await spend(quota, user, 10)).remaining == 0


async def test_refund_of_tokens_alone_keeps_the_request(make: MakeQuota, user: str) -> None:
    quota = make(requests=3, tokens_per_day=10)
    left = await quota.refund(tokens_alone(await spend(quota, user, 10)))
    assert (left.remaining, left.tokens_remaining) == (2, 10)
    usage = await quota.usage(user)
    assert (usage.remaining, usage.tokens_remaining) == (2, 10)


async def test_refund_of_part_of_the_tokens_leaves_the_rest_to_be_refunded_later(
    make: MakeQuota, user: str
) -> None:
    quota = make(requests=3, tokens_per_day=10)
    receipt = await spend(quota, user, 10)
    part = part_of(receipt, tokens=4)
    rest = without(receipt, part, left=await quota.refund(part))
    assert (rest.remaining, rest.tokens_remaining, rest.spent.tokens) == (2, 4, 6)
    assert (await quota.usage(user)).tokens_remaining == 4
    left = await quota.refund(rest)
    assert (left.remaining, left.tokens_remaining) == (3, 10)


async def test_refund_takes_back_that_request_and_no_other(
    make: MakeQuota, user: str, clock: Clock
) -> None:
    quota = make(requests=2)
    await quota.charge(user)
    clock.now += 20
    second = await quota.charge(user)
    clock.now += 20
    await quota.refund(second)
    usage = await quota.usage(user)
    assert (usage.remaining, usage.reset_after) == (1, 20)


async def test_refund_after_midnight_gives_no_tokens_of_the_new_day(
    make: MakeQuota, user: str, clock: Clock
) -> None:
    quota = make(requests=100, tokens_per_day=10)
    clock.now = MIDNIGHT - 1
    receipt = await spend(quota, user, 5)
    clock.now = MIDNIGHT + 1
    await spend(quota, user, 3)
    await quota.refund(receipt)
    assert (await quota.usage(user)).tokens_remaining == 7


async def test_refund_of_a_stranger_changes_nothing(make: MakeQuota, user: str) -> None:
    quota = make(requests=2, tokens_per_day=10)
    receipt = await spend(quota, user, 5)
    other = str(uuid.uuid4())
    await spend(quota, other, 5)
    await quota.refund(receipt)
    usage = await quota.usage(other)
    assert (usage.remaining, usage.tokens_remaining) == (1, 5)
