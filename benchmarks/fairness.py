"""One user streams batches of 256 texts; how long does another's single query take?

python -m benchmarks.fairness [--json PATH]
"""

import asyncio
import time

from benchmarks.load import USERS, caller, post, serving, text_of
from benchmarks.models import prepared, random_embeddinggemma
from benchmarks.report import arguments, percentile, save, spread
from embedder.model import EmbeddingModel
from tests.live.server import Server

QUERIES = 60
PACK_TOKENS = 256


async def query_latencies(server: Server, query: str) -> list[float]:
    """Seconds of each of the single user's calls, one after the other with a pause between."""
    latencies = []
    async with caller(server, USERS[1]) as client:
        for _ in range(QUERIES):
            started = time.perf_counter()
            await post(client, "/embed", {"text": query})
            latencies.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)
    return latencies


async def stream(server: Server, texts: list[str]) -> None:
    """The bulk user: always two batches on their way."""
    async with caller(server, USERS[0]) as client:

        async def batches() -> None:
            while True:
                await post(client, "/batch-embed", {"texts": texts})

        await asyncio.gather(batches(), batches())


async def measure(server: Server, query: str, texts: list[str]) -> tuple[list[float], list[float]]:
    await query_latencies(server, query)
    idle = await query_latencies(server, query)
    bulk = asyncio.create_task(stream(server, texts))
    await asyncio.sleep(3)
    loaded = await query_latencies(server, query)
    assert not bulk.done(), bulk.exception()
    bulk.cancel()
    await asyncio.gather(bulk, return_exceptions=True)
    return idle, loaded


def main() -> None:
    path = arguments("fairness", __doc__).json
    model = EmbeddingModel.load(prepared(str(random_embeddinggemma()), "int8"), num_threads=2)
    query, passage = text_of(16, model.tokenizer), text_of(PACK_TOKENS // 2, model.tokenizer)
    tokens = [text.ids for text in model.tokenizer.encode([passage] * 2, max_tokens=PACK_TOKENS)]
    packs = []
    for _ in range(12):
        started = time.perf_counter()
        model.engine.embed(tokens)
        packs.append(time.perf_counter() - started)
    del model
    with serving() as server:
        idle, loaded = asyncio.run(measure(server, query, [passage] * 256))
    pack = spread(packs)["median"]
    idle_p50, loaded_p95 = percentile(idle, 0.5), percentile(loaded, 0.95)
    figures = {
        "pack_ms": pack * 1000,
        "idle_p50_ms": idle_p50 * 1000,
        "loaded_p50_ms": percentile(loaded, 0.5) * 1000,
        "loaded_p95_ms": loaded_p95 * 1000,
        "bound_ms": (3 * idle_p50 + pack) * 1000,
    }
    save(path, {**figures, "share_of_bound": loaded_p95 / (3 * idle_p50 + pack)})


if __name__ == "__main__":
    main()
