"""What every store of quotas promises: one set of tests, run on each."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from errors import ConfigurationError
from lab.redis_server import RedisServer
from lab.signing import NOW, Clock
from quota.breaker import Breaker
from quota.errors import QuotaExceeded
from quota.guarded import GuardedQuota, make_quota
from quota.memory import MemoryQuota
from quota.quota import Quota
from quota.receipt import Limits, Receipt, quota_headers, set_quota_headers, tokens_alone
from quota.redis import RedisQuota

DAY = 86_400
MIDNIGHT = NOW // DAY * DAY + DAY

MakeQuota = Callable[..., Quota]


@pytest.fixture
def user() -> str:
    return str(uuid.uuid4())


@pytest.fixture(params=["memory", "redis"])
async def make(
    request: pytest.FixtureRequest, redis: RedisServer, clock: Clock
) -> AsyncIterator[MakeQuota]:
    """Makes a quota of `requests` a minute, on the test's clock."""
    made: list[Quota] = []

    def quota(requests: int = 3, tokens_per_day: int | None = None, window: float = 60.0) -> Quota:
        limits = Limits(requests, window, tokens_per_day)
        local = MemoryQuota(limits, clock=clock)
        if request.param == "memory":
            made.append(local)
        else:
            shared = RedisQuota(redis.url, limits, clock=clock, monotonic=clock)
            made.append(
                GuardedQuota(shared, local, on_error="local", breaker=Breaker(monotonic=clock))
            )
        return made[-1]

    yield quota
    for each in made:
        await each.aclose()


async def refused(quota: Quota, user: str) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as refusal:
        await quota.charge(user)
    return refusal.value


async def spend(quota: Quota, user: str, tokens: int) -> Receipt:
    """A request and its tokens."""
    return await quota.spend(await quota.charge(user), tokens=tokens)


async def refused_tokens(quota: Quota, user: str, tokens: int) -> QuotaExceeded:
    """Of a request that stays charged."""
    receipt = await quota.charge(user)
    with pytest.raises(QuotaExceeded) as refusal:
        await quota.spend(receipt, tokens=tokens)
    return refusal.value


async def is_refused(quota: Quota, user: str) -> bool:
    try:
        await quota.charge(user)
    except QuotaExceeded:
        return True
    return False


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
    """No burst at the turn of a minute: each request frees its own slot a window later."""
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


async def test_tokens_are_not_counted_where_the_day_has_no_limit(
    make: MakeQuota, user: str
) -> None:
    quota = make(requests=3)
    receipt = await spend(quota, user, 10**9)
    assert (receipt.remaining, receipt.tokens_remaining) == (2, None)
    assert (await quota.refund(receipt)).remaining == 3


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


# --- what Redis adds --------------------------------------------------------------------------------


@pytest.fixture
async def pair(redis: RedisServer, clock: Clock) -> AsyncIterator[tuple[RedisQuota, RedisQuota]]:
    """Two processes' views of one user."""
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
    """Two processes' worth of callers on the clocks of the machine, each at its own moment of a second."""
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


# --- what memory adds -------------------------------------------------------------------------------


async def test_memory_forgets_users_who_are_gone(clock: Clock) -> None:
    quota = MemoryQuota(Limits(2, 60.0, None), clock=clock)
    for n in range(1000):
        await quota.charge(str(n))
    clock.now += 61
    await quota.charge("last")
    assert len(quota._accounts) == 1


async def test_memory_says_that_there_is_no_redis() -> None:
    quota = make_quota(redis_url=None, per_minute=1)
    assert await quota.start()
    assert quota.state == "disabled"


# --- headers ----------------------------------------------------------------------------------------


async def test_headers_say_what_is_left(make: MakeQuota, user: str, clock: Clock) -> None:
    quota = make(requests=3, tokens_per_day=100)
    clock.now = MIDNIGHT - 100
    await spend(quota, user, 40)
    clock.now += 0.5
    assert dict(quota_headers(await quota.usage(user))) == {
        b"ratelimit-policy": b'"requests";q=3;w=60, "tokens";q=100;w=86400',
        b"ratelimit": b'"requests";r=2;t=60, "tokens";r=60;t=100',
        b"x-ratelimit-limit": b"3",
        b"x-ratelimit-remaining": b"2",
        b"x-ratelimit-reset": b"60",
    }


async def test_later_headers_replace_earlier_ones(make: MakeQuota, user: str) -> None:
    quota = make(requests=3)
    headers = [(b"vary", b"Origin")]
    set_quota_headers(headers, await quota.usage(user))
    set_quota_headers(headers, await quota.charge(user))
    assert len(headers) == 6
    assert dict(headers)[b"x-ratelimit-remaining"] == b"2"
