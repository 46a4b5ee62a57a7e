"""Each kind of quota, on the test's clock."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from lab.redis_server import RedisServer
from lab.signing import Clock
from quota.breaker import Breaker
from quota.guarded import GuardedQuota
from quota.memory import MemoryQuota
from quota.quota import Quota
from quota.receipt import Limits
from quota.redis import RedisQuota
from tests.quota.charging import MakeQuota


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
