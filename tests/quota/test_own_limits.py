"""Callers whose limits are not those of users, on each store."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from lab.redis_server import RedisServer
from lab.signing import Clock
from quota.breaker import Breaker
from quota.errors import QuotaExceeded
from quota.guarded import GuardedQuota
from quota.memory import MemoryQuota
from quota.quota import Quota
from quota.receipt import Limits, tokens_alone
from quota.redis import RedisQuota

DAY = 86_400
FEW = Limits(1, 60.0, 100)  # of users
OWN = {
    "more": Limits(5, 60.0, None),
    "tokens": Limits(None, 60.0, 50),
    "free": Limits(None, 60.0, None),
}


def own_limits(caller: str) -> Limits | None:
    return OWN.get(caller.partition("-")[0])


@pytest.fixture
def more() -> str:
    return f"more-{uuid.uuid4()}"


@pytest.fixture
def tokens() -> str:
    return f"tokens-{uuid.uuid4()}"


@pytest.fixture
def free() -> str:
    return f"free-{uuid.uuid4()}"


@pytest.fixture(params=["memory", "redis"])
async def quota(
    request: pytest.FixtureRequest, redis: RedisServer, clock: Clock
) -> AsyncIterator[Quota]:
    local = MemoryQuota(FEW, own_limits=own_limits, clock=clock)
    made: Quota = local
    if request.param == "redis":
        shared = RedisQuota(redis.url, FEW, own_limits=own_limits, clock=clock, monotonic=clock)
        breaker = Breaker(monotonic=clock)
        made = GuardedQuota(shared, local, on_error="closed", breaker=breaker)
    yield made
    await made.aclose()


async def test_others_have_the_limits_of_users(quota: Quota) -> None:
    user = str(uuid.uuid4())
    assert quota.limits_of(user) == FEW
    await quota.charge(user)
    with pytest.raises(QuotaExceeded):
        await quota.charge(user)


async def test_a_limit_of_its_own_is_exact(quota: Quota, more: str, clock: Clock) -> None:
    receipts = [await quota.charge(more) for _ in range(5)]
    assert [receipt.remaining for receipt in receipts] == [4, 3, 2, 1, 0]
    assert receipts[0].tokens_limit is None
    with pytest.raises(QuotaExceeded) as refusal:
        await quota.charge(more)
    assert refusal.value.receipt.limit == 5
    clock.now += 60
    assert (await quota.charge(more)).remaining == 4


async def test_requests_without_a_limit_are_not_counted(quota: Quota, free: str) -> None:
    for _ in range(30):
        receipt = await quota.charge(free)
        spent = await quota.spend(receipt, tokens=10**6)
        assert (spent.limit, spent.remaining, spent.tokens_limit) == (None, None, None)
    usage = await quota.usage(free)
    assert (usage.limit, usage.reset_after) == (None, 0)


async def test_tokens_may_be_limited_where_requests_are_not(
    quota: Quota, tokens: str, clock: Clock
) -> None:
    for left in (40, 30, 20, 10, 0):
        receipt = await quota.charge(tokens)
        assert (await quota.spend(receipt, tokens=10)).tokens_remaining == left
    with pytest.raises(QuotaExceeded) as refusal:
        await quota.charge(tokens)
    assert refusal.value.which == "tokens"
    clock.now += DAY
    await quota.spend(await quota.charge(tokens), tokens=50)


async def test_tokens_that_were_not_used_are_given_back(quota: Quota, tokens: str) -> None:
    spent = await quota.spend(await quota.charge(tokens), tokens=30)
    assert (await quota.refund(tokens_alone(spent))).tokens_remaining == 50
    spent = await quota.spend(await quota.charge(tokens), tokens=50)
    assert (await quota.refund(spent)).tokens_remaining == 50


async def test_callers_with_limits_of_their_own_keep_no_user_in_memory(
    clock: Clock, tokens: str
) -> None:
    quota = MemoryQuota(Limits(1, 60.0, None), own_limits=own_limits, clock=clock)
    await quota.spend(await quota.charge(tokens), tokens=1)
    for _ in range(100):
        await quota.charge(str(uuid.uuid4()))
    clock.now += 61
    await quota.charge("newcomer")
    assert quota.users() == ["newcomer", tokens]
    assert (await quota.usage(tokens)).tokens_remaining == 49
