"""Measure what a request of one text costs that was embedded before, beside one that is computed.

python -m benchmarks.cache
"""

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.load import caller, cpu_seconds, serving
from lab.server import Server

REQUESTS = 1000
TEXT = "A man is playing a guitar in front of a small audience in the park"


@dataclass(frozen=True)
class Call:
    """One kind of request."""

    path: str
    body: Mapping[str, object]
    headers: dict[str, str] = field(default_factory=dict)


EMBED = {"text": TEXT, "encoding_format": "base64"}
CALLS = {
    "tokenised, not embedded": Call("/tokenize", {"texts": [TEXT]}),
    "embedded before": Call("/embed", EMBED),
    "computed": Call("/embed", EMBED, {"Cache-Control": "no-store"}),
}


async def measured(server: Server, call: Call) -> tuple[float, float]:
    """Median time of a request, and CPU of the server for each, in milliseconds."""
    took = []
    async with caller(server) as client:
        before = cpu_seconds(server)
        for _ in range(REQUESTS):
            started = time.perf_counter()
            async with client.post(call.path, json=call.body, headers=call.headers) as answer:
                answer.raise_for_status()
                await answer.read()
            took.append(time.perf_counter() - started)
        cpu = cpu_seconds(server) - before
    return statistics.median(took) * 1000, cpu / REQUESTS * 1000


def main() -> None:
    with serving(None, cached=True) as server:
        for name, call in CALLS.items():
            took, cpu = asyncio.run(measured(server, call))
            print(f"{name:24} {took:6.2f} ms, {cpu:5.2f} ms of CPU", flush=True)


if __name__ == "__main__":
    main()
