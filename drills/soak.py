"""A soak: 80 % of what the service can do, for a while, and what grows meanwhile.

python -m drills.soak [MINUTES]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from drills.__main__ import ROOT, references
from drills.load import Load
from tests.live.server import Server, serve

RESULTS = ROOT / "deploy" / "soak.json"
CALLERS, SHARE = 8, 0.8
EVERY = 2.0  # seconds between samples
WARM = 0.25  # of the time, left out of the slopes: arenas and caches fill once
# An hour may add this much and not more; noise of a short soak stays below.
LIMITS = {"rss_mb": 20.0, "files": 5.0, "threads": 5.0, "series": 5.0, "tasks": 5.0}


@dataclass(frozen=True)
class Sample:
    """The worker at one moment; `tasks` are the requests it says are in flight."""

    seconds: float
    rss_mb: float
    files: int
    threads: int
    series: int
    tasks: float


def sample(server: Server, began: float) -> Sample:
    [worker] = psutil.Process(server.process.pid).children()
    lines = [line for line in httpx.get(f"{server.url}/metrics").text.splitlines() if not line.startswith("#")]
    [tasks] = [line.split()[1] for line in lines if line.startswith("embed_in_flight_requests ")]
    return Sample(
        time.monotonic() - began,
        worker.memory_info().rss / 1e6,
        worker.num_fds(),
        worker.num_threads(),
        len(lines),
        float(tasks),
    )


def slopes(samples: Sequence[Sample]) -> dict[str, float]:
    """Growth an hour of each figure, by least squares over what follows the warm-up."""
    settled = samples[int(len(samples) * WARM) :]
    hours = np.array([one.seconds for one in settled]) / 3600
    return {name: float(np.polyfit(hours, [getattr(one, name) for one in settled], 1)[0]) for name in LIMITS}


async def pause_for(load: Load) -> float:
    """Seconds between a caller's calls that leave a fifth of the service's capacity free."""
    load.pause = 0.0
    async with load.running():
        await asyncio.sleep(2)
        before, began = len(load.calls), time.monotonic()
        await asyncio.sleep(6)
        rate = (len(load.calls) - before) / (time.monotonic() - began)
    each = sum(call.ended - call.started for call in load.calls[before:]) / max(len(load.calls) - before, 1)
    load.calls.clear()
    print(f"capacity {rate:.0f} calls/s with {CALLERS} callers", file=sys.stderr, flush=True)
    return max(0.0, CALLERS / (SHARE * rate) - each * SHARE)


async def soak(server: Server, load: Load, minutes: float) -> list[Sample]:
    load.pause = await pause_for(load)
    began, samples = time.monotonic(), []
    async with load.running():
        while time.monotonic() - began < minutes * 60:
            await asyncio.sleep(EVERY)
            samples.append(await asyncio.to_thread(sample, server, began))
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=20.0)
    minutes = parser.parse_args().minutes
    texts, vectors = references(long=False)
    environment = {"MODEL_QUANTIZATION": "fp32", "RATE_LIMIT_PER_MIN": "10000000"}
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        serve(Path(directory) / "log", environment) as server,
    ):
        load = Load(server.url, texts, vectors, callers=CALLERS)
        samples = asyncio.run(soak(server, load, minutes))
    outcomes, grown = Counter(call.outcome for call in load.calls), slopes(samples)
    first, last = asdict(samples[int(len(samples) * WARM)]), asdict(samples[-1])
    print(f"{minutes:g} minutes, {len(load.calls) / samples[-1].seconds:.0f} calls/s: {dict(outcomes)}")
    for name, limit in LIMITS.items():
        print(f"{name:8} {first[name]:9.1f} -> {last[name]:9.1f}   {grown[name]:+8.2f} an hour (limit {limit:g})")
    result = {"minutes": minutes, "calls": outcomes, "after_warm_up": first, "end": last, "growth_an_hour": grown}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(set(outcomes) != {"right"} or any(grown[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
