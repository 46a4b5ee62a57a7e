"""What a quota in memory adds, and the headers of every quota."""

from __future__ import annotations

from lab.signing import Clock
from quota.guarded import make_quota
from quota.memory import MemoryQuota
from quota.receipt import Limits, quota_headers, set_quota_headers
from tests.quota.charging import MIDNIGHT, MakeQuota, spend


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
