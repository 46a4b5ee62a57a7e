"""What Redis adds to a quota."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator

import pytest

from errors import ConfigurationError
from lab.redis_server import RedisServer
from lab.signing import Clock
from quota.errors import QuotaExceeded
from quota.guarded import make_quota
from quota.quota import Quota
from quota.receipt import Limits
from quota.redis import RedisQuota
from tests.quota.charging import DAY, refused, spend


@pytest.fixture
async def pair(redis: RedisServer, clock: Clock) -> AsyncIterator[tuple[RedisQuota, RedisQuota]]:
    """The quotas of two processes for one user."""
    limits = Limits(2, 60.0, 10)
    both = (
        RedisQuota(redis.url, limits, clock=clock, monotonic=clock),
        RedisQuota(redis.url, limits, clock=clock, monotonic=clock),
    )
    yield both
    for quota in both:
        await quota.aclose()


async def test_processes_share_the_count(
    pair: tuple[RedisQuota, RedisQuota], user: str, clock: Clock
) -> None:
    here, there = pair
    await here.charge(user)
    assert (await there.charge(user)).remaining == 0
    with pytest.raises(QuotaExceeded):
        await here.charge(user)
    there.check(user)
    clock.now += 0.5
    with pytest.raises(QuotaExceeded) as remembered:
        here.check(user)
    assert remembered.value.retry_after == 60
    clock.now += 59.5
    here.check(user)


async def test_refund_ends_a_remembered_refusal(
    pair: tuple[RedisQuota, RedisQuota], user: str
) -> None:
    here, _ = pair
    receipt = await here.charge(user)
    await here.charge(user)
    with pytest.raises(QuotaExceeded):
        await here.charge(user)
    await here.refund(receipt)
    here.check(user)
    await here.charge(user)


async def test_restarted_process_finds_its_counts_again(redis: RedisServer, user: str) -> None:
    for expected in (1, 0):
        quota = make_quota(redis_url=redis.url, per_minute=2)
        assert (await quota.charge(user)).remaining == expected
        await quota.aclose()


async def test_keys_share_a_slot_and_expire_by_themselves(redis: RedisServer, user: str) -> None:
    quota = make_quota(redis_url=redis.url, per_minute=2, tokens_per_day=10)
    await spend(quota, user, 1)
    await quota.aclose()
    requests, tokens = f"quota:{{{user}}}:requests", f"quota:{{{user}}}:tokens"
    slots = {redis.command("CLUSTER", "KEYSLOT", key) for key in (requests, tokens)}
    assert len(slots) == 1
    assert 1 <= int(redis.command("TTL", requests)[1:]) <= 61
    assert 1 <= int(redis.command("TTL", tokens)[1:]) <= DAY + 1


async def test_client_that_waits_exactly_gets_through_in_real_time(redis: RedisServer) -> None:
    """Callers in real time, each at another moment of a second."""
    quotas = [make_quota(redis_url=redis.url, per_minute=2, window=1.0) for _ in range(2)]

    async def caller(quota: Quota) -> None:
        user = str(uuid.uuid4())
        await asyncio.sleep(random.random())
        for pause in (0.1, 0.25):
            await quota.charge(user)
            await asyncio.sleep(pause)
        refusal = await refused(quota, user)
        await asyncio.sleep(refusal.retry_after)
        await quota.charge(user)

    await asyncio.gather(*(caller(quota) for quota in quotas for _ in range(50)))
    for quota in quotas:
        assert quota.state == "ok"
        await quota.aclose()


async def test_server_clock_counts_unless_one_is_given(redis: RedisServer, user: str) -> None:
    quota = make_quota(redis_url=redis.url, per_minute=1, window=0.5)
    await quota.charge(user)
    with pytest.raises(QuotaExceeded):
        await quota.charge(user)
    await asyncio.sleep(0.55)
    assert (await quota.charge(user)).remaining == 0
    await quota.aclose()


async def test_flushed_scripts_are_sent_again(redis: RedisServer, user: str) -> None:
    quota = make_quota(redis_url=redis.url, per_minute=2)
    await quota.charge(user)
    redis.command("SCRIPT", "FLUSH")
    assert (await quota.charge(user)).remaining == 0
    await quota.aclose()


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost", "redis://localhost:port", "redis://h?colour=red"]
)
def test_wrong_address_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        make_quota(redis_url=url, per_minute=1)


async def test_each_space_counts_by_itself(redis: RedisServer, user: str, clock: Clock) -> None:
    limits = Limits(2, 60.0, 10)
    usual = RedisQuota(redis.url, limits, clock=clock)
    apart = RedisQuota(redis.url, limits, clock=clock, space="batches:")
    again = RedisQuota(redis.url, limits, clock=clock, space="batches:")
    await apart.spend(await apart.charge(user), tokens=7)
    assert (await usual.usage(user)).tokens_remaining == 10
    assert (await again.usage(user)).tokens_remaining == 3
    for quota in (usual, apart, again):
        await quota.aclose()
