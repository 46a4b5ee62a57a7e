"""Measure the speed over HTTP by number of cores. benchmarks.memory measures the memory.

    python -m benchmarks.sizing [--json PATH]

Uses a model of EmbeddingGemma's size with random weights, in int8. The processes of the service are
limited to cores by affinity. With all cores, the callers share them.
"""

import asyncio
import os
from typing import Any

from benchmarks.load import closed_loop, serving
from benchmarks.report import arguments, save
from embedder.profile import TOKENIZER_FILE
from embedder.tokens import Tokenizer
from lab.figures import percentile
from lab.models import prepared, random_embeddinggemma
from lab.server import Server
from lab.texts import text_of

QUERIES, PASSAGES, CALLERS = 40, 120, 8


async def measure(server: Server, query: str, passage: str) -> dict[str, float]:
    await closed_loop(server, [query, passage] * 4, concurrency=2)
    queries = await closed_loop(server, [query] * QUERIES, concurrency=1)
    passages = await closed_loop(server, [passage] * PASSAGES, concurrency=CALLERS)
    return {
        "query_ms": percentile(queries.latencies, 0.5) * 1000,
        "tokens_per_second_128": passages.tokens / passages.seconds,
    }


def row(threads: int, texts: tuple[str, str]) -> dict[str, Any]:
    """Measure one service on `threads` cores; its processes inherit the affinity."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(cores)[:threads]))
    try:
        with serving() as server:
            os.sched_setaffinity(0, cores)
            return {"threads": threads, **asyncio.run(measure(server, *texts))}
    finally:
        os.sched_setaffinity(0, cores)


def main() -> None:
    path = arguments("sizing", __doc__).json
    tokenizer = Tokenizer.from_file(prepared(str(random_embeddinggemma()), "int8") / TOKENIZER_FILE)
    texts = (text_of(16, tokenizer), text_of(128, tokenizer))
    counts = range(1, len(os.sched_getaffinity(0)) + 1)
    save(path, {"rows": [row(threads, texts) for threads in counts]})


if __name__ == "__main__":
    main()
