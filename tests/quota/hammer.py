"""One of several processes that ask for more than a user's limit: prints the times of admission.

python -m tests.quota.hammer REDIS_URL USER LIMIT WINDOW_SECONDS CALLERS SECONDS
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from quota.errors import QuotaExceeded
from quota.receipt import Limits
from quota.redis import REDIS_FAILURES, RedisQuota


async def caller(quota: RedisQuota, user: str, *, until: float, admitted: list[int]) -> None:
    while time.monotonic() < until:
        try:
            admitted.append((await quota.charge(user)).charged_at)
        except (QuotaExceeded, *REDIS_FAILURES):
            await asyncio.sleep(random.uniform(0.0, 0.1))


async def hammer(url: str, user: str, *, limits: Limits, callers: int, seconds: float) -> list[int]:
    """The time of every admission, in µs of the server's clock."""
    quota, admitted, until = RedisQuota(url, limits), list[int](), time.monotonic() + seconds
    await asyncio.gather(
        *(caller(quota, user, until=until, admitted=admitted) for _ in range(callers))
    )
    await quota.aclose()
    return admitted


if __name__ == "__main__":
    url, user, limit, window, callers, seconds = sys.argv[1:]
    limits = Limits(int(limit), float(window), None)
    print(
        json.dumps(
            asyncio.run(
                hammer(url, user, limits=limits, callers=int(callers), seconds=float(seconds))
            )
        )
    )
