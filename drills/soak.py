"""A soak: load the service with 80 % of its capacity for a while, and measure what grows.

python -m drills.soak [MINUTES]
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from drills.__main__ import references
from drills.load import Load
from drills.report import save_soak
from lab.redis_server import RedisServer
from lab.server import Server, serve

CALLERS, SHARE = 8, 0.8
EVERY = 2.0  # seconds between samples
WARM = 0.25  # share of the time that is not measured, in which arenas and caches fill
# The most that an hour may add, less the uncertainty of the slope.
LIMITS = {"rss_mb": 120.0, "files": 5.0, "threads": 5.0, "series": 5.0, "tasks": 5.0}
# Allocators add 2 MB within five minutes. In runs of LONG minutes this is part of the warm-up, so
# that the limit can be lower.
LONG, LONG_RSS_MB = 20.0, 5.0


@dataclass(frozen=True)
class Sample:
    """The worker at one moment; `tasks` are the asyncio tasks of its event loop."""

    seconds: float
    rss_mb: float
    files: int
    threads: int
    series: int
    tasks: float


def sample(server: Server, began: float) -> Sample:
    """Measure the worker; `began` is when the load began, on time.monotonic()."""
    [worker] = psutil.Process(server.process.pid).children()
    lines = [
        line
        for line in httpx.get(f"{server.url}/metrics").text.splitlines()
        if not line.startswith("#")
    ]
    [tasks] = [line.split()[1] for line in lines if line.startswith("embed_asyncio_tasks ")]
    return Sample(
        time.monotonic() - began,
        worker.memory_info().rss / 1e6,
        worker.num_fds(),
        worker.num_threads(),
        len(lines),
        float(tasks),
    )


def growth(samples: Sequence[Sample], name: str) -> tuple[float, float]:
    """The growth of a figure per hour, and two standard errors: least squares after the warm-up."""
    settled = samples[int(len(samples) * WARM) :]
    hours = np.array([one.seconds for one in settled]) / 3600
    (slope, _), covariance = np.polyfit(hours, [getattr(one, name) for one in settled], 1, cov=True)
    return float(slope), 2 * float(covariance[0, 0]) ** 0.5


async def capacity_of(load: Load) -> tuple[float, float]:
    """The calls per second without pauses, and the pause in seconds that reduces them to SHARE."""
    load.pause = 0.0
    async with load.running():
        await asyncio.sleep(2)
        before = len(load.calls)
        began = time.monotonic()
        await asyncio.sleep(6)
        rate = (len(load.calls) - before) / (time.monotonic() - began)
    each = sum(call.ended - call.started for call in load.calls[before:]) / max(
        len(load.calls) - before, 1
    )
    load.calls.clear()
    print(f"capacity {rate:.0f} calls/s with {CALLERS} callers", file=sys.stderr, flush=True)
    return rate, max(0.0, CALLERS / (SHARE * rate) - each * SHARE)


async def soak(server: Server, load: Load, minutes: float) -> tuple[float, list[Sample]]:
    """The capacity in calls per second, and samples of the worker under SHARE of it."""
    capacity, load.pause = await capacity_of(load)
    began = time.monotonic()
    samples = []
    async with load.running():
        while time.monotonic() - began < minutes * 60:
            await asyncio.sleep(EVERY)
            samples.append(await asyncio.to_thread(sample, server, began))
    return capacity, samples


def run(minutes: float) -> tuple[float, list[Sample], Load]:
    """Soak a new server with a new Redis; returns its capacity, the samples and the load."""
    texts, vectors = references(long=False)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        redis = RedisServer(directory)
        stack.callback(redis.kill)
        redis.start()
        environment = {
            "MODEL_QUANTIZATION": "fp32",
            "RATE_LIMIT_PER_MIN": "10000000",
            "REDIS_URL": redis.url,
        }
        server = stack.enter_context(serve(directory / "log", environment))
        load = Load(server.url, texts, vectors, callers=CALLERS)
        capacity, samples = asyncio.run(soak(server, load, minutes))
    return capacity, samples, load


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", nargs="?", type=float, default=20.0)
    minutes = parser.parse_args().minutes
    capacity, samples, load = run(minutes)
    rate = len(load.calls) / samples[-1].seconds
    grown = {name: growth(samples, name) for name in LIMITS}
    limits = LIMITS | ({"rss_mb": LONG_RSS_MB} if minutes >= LONG else {})
    result = {
        "minutes": minutes,
        "calls": Counter(call.outcome for call in load.calls),
        "calls_a_second": rate,
        "capacity": capacity,
        "share_of_capacity": rate / capacity,
        "after_warm_up": asdict(samples[int(len(samples) * WARM)]),
        "end": asdict(samples[-1]),
        "growth_an_hour": grown,
        "limits": limits,
    }
    print(save_soak(result))
    failed = [
        f"{name} grew by {slope:.1f} ± {error:.1f} an hour, limit {limits[name]:g}"
        for name, (slope, error) in grown.items()
        if slope - error > limits[name]
    ]
    if set(result["calls"]) != {"right"}:
        failed.append(f"not all calls were right: {dict(result['calls'])}")
    sys.exit("\n".join(failed) or 0)


if __name__ == "__main__":
    main()
