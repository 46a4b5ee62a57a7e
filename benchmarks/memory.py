"""Measure the memory of the service, and the time of its start.

    python -m benchmarks.memory [--json PATH]

Uses a model of EmbeddingGemma's size with the tokenizer of Gemma 3, in int8. No engine runs in this
process: it would map the same weights, and PSS divides a page between the processes that map it.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from benchmarks.load import closed_loop, pss_mb, serving
from benchmarks.report import arguments, save
from embedder.profile import TOKENIZER_FILE
from embedder.tokens import Tokenizer
from lab.figures import spread
from lab.models import prepared, with_real_tokenizer
from lab.server import Server
from lab.texts import text_of

STARTS = 5
LOOK = 0.1  # seconds between two samples of memory


def ready_after(model: Path) -> float:
    """Seconds from the start until the service is ready."""
    started = time.perf_counter()
    with serving(model):
        return time.perf_counter() - started


async def most_during(server: Server, texts: list[str]) -> dict[str, float]:
    """The sample with the most memory while four callers send the texts."""
    load = asyncio.create_task(closed_loop(server, texts, concurrency=4))
    looks = [pss_mb(server)]
    while not load.done():
        await asyncio.sleep(LOOK)
        looks.append(pss_mb(server))
    await load
    return max(looks, key=lambda look: look["all"])


async def measure(server: Server, passage: str, longest: str) -> dict[str, Any]:
    idle = pss_mb(server)
    short = await most_during(server, [passage] * 64)
    long = await most_during(server, [longest] * 12)
    return {
        "idle": idle,
        "texts of 128 tokens": short,
        "texts of 2,048 tokens": long,
        "later": pss_mb(server),
        "most": max(look["all"] for look in (idle, short, long)),
    }


def main() -> None:
    path = arguments("memory", __doc__).json
    model = with_real_tokenizer()
    tokenizer = Tokenizer.from_file(prepared(str(model), "int8") / TOKENIZER_FILE)
    passage = text_of(128, tokenizer)
    longest = text_of(2048, tokenizer)
    del tokenizer
    ready_after(model)  # the weights are in the page cache from now on
    starts = [ready_after(model) for _ in range(STARTS)]
    with serving(model) as server:
        memory = asyncio.run(measure(server, passage, longest))
    save(path, {"ready_after_s": spread(starts), "pss_mb": memory})


if __name__ == "__main__":
    main()
