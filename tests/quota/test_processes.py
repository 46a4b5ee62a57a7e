"""Several processes with one Redis admit exactly the limit in every rolling window."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid

import pytest

from lab.redis_server import RedisServer

pytestmark = pytest.mark.alone  # six processes at full speed, whom Redis answers within 250 ms
PROCESSES = 6
CALLERS = 60
LIMIT = 10
WINDOW = 0.5  # seconds
SECONDS = 7.0


async def admitted_by_one_process(url: str, user: str) -> list[int]:
    arguments = [url, user, str(LIMIT), str(WINDOW), str(CALLERS), str(SECONDS)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.quota.hammer", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    times: list[int] = json.loads(output)
    return times


async def test_six_processes_admit_exactly_the_limit_in_every_rolling_window(
    redis: RedisServer,
) -> None:
    user = str(uuid.uuid4())
    each = await asyncio.gather(
        *(admitted_by_one_process(redis.url, user) for _ in range(PROCESSES))
    )
    times = sorted(at for process in each for at in process)
    assert sum(bool(process) for process in each) >= 2, (
        "only one process was ever admitted: nothing was shared"
    )
    assert len(times) >= LIMIT * 10, "fewer than ten windows were filled"
    window = round(WINDOW * 1_000_000)
    spans = [later - earlier for earlier, later in zip(times, times[LIMIT:], strict=False)]
    assert min(spans) >= window  # the 11th after any request comes a whole window later
    assert sorted(spans)[len(spans) // 2] < window * 1.1  # and not much later: the limit is used up
