"""The service over HTTP against the bare engine on the same texts (EmbeddingGemma's size, random weights, int8).

python -m benchmarks.serving [--json PATH]
"""

import asyncio
import statistics
import time
from typing import Any

from benchmarks.load import Load, closed_loop, peak_mb, resident_mb, serving, text_of
from benchmarks.models import prepared, random_embeddinggemma
from benchmarks.report import arguments, percentile, save
from embedder.model import EmbeddingModel
from tests.live.server import Server

# Requests at each concurrency; texts of 16 to 256 tokens.
CONCURRENCY = {1: 60, 8: 240, 32: 480}
ROUNDS = 3  # of the bare engine and of the server, in turn: a slow moment falls on both
LENGTHS = (16, 24, 32, 48, 64, 96, 128, 256)


def bare_engine(model: EmbeddingModel, texts: list[str]) -> dict[str, float]:
    """Tokens a second with all texts at hand, and milliseconds for each alone; tokenising included."""
    started = time.perf_counter()
    tokens = model.tokenizer.encode(texts, max_tokens=model.max_tokens)
    model.engine.embed([text.ids for text in tokens])
    seconds = time.perf_counter() - started
    alone = []
    for text in texts[: CONCURRENCY[1]]:
        started = time.perf_counter()
        model.embed([text])
        alone.append(time.perf_counter() - started)
    n_tokens = sum(len(text.ids) for text in tokens)
    return {"tokens_per_second": n_tokens / seconds, "one_text_p50_ms": statistics.median(alone) * 1000}


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure, over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def figures(load: Load) -> dict[str, float]:
    return {
        **{f"p{share}_ms": percentile(load.latencies, share / 100) * 1000 for share in (50, 95, 99)},
        "texts_per_second": len(load.latencies) / load.seconds,
        "tokens_per_second": load.tokens / load.seconds,
        "cpu_ms_per_request": load.cpu_seconds / len(load.latencies) * 1000,
    }


async def measure(server: Server, model: EmbeddingModel, texts: list[str], longest: str) -> dict[str, Any]:
    await closed_loop(server, texts[:20], concurrency=4)
    idle = resident_mb(server)
    bare: list[dict[str, float]] = []
    served: dict[str, list[dict[str, float]]] = {str(concurrency): [] for concurrency in CONCURRENCY}
    for _ in range(ROUNDS):
        bare.append(bare_engine(model, texts))
        for concurrency, count in CONCURRENCY.items():
            load = await closed_loop(server, texts[:count], concurrency=concurrency)
            served[str(concurrency)].append(figures(load))
    loaded = resident_mb(server)
    long = figures(await closed_loop(server, [longest] * 8, concurrency=4))
    after_long = resident_mb(server)
    await closed_loop(server, texts[:60], concurrency=8)
    rss = {
        "idle": idle,
        "under_load": loaded,
        "with_2048_token_texts": after_long,
        "later": resident_mb(server),
        "peak": peak_mb(server),
    }
    http = {concurrency: medians(rounds) for concurrency, rounds in served.items()}
    return {"bare_engine": medians(bare), "http": http, "http_2048_tokens": long, "rss_mb": rss}


def main() -> None:
    path = arguments("serving", __doc__).json
    directory = prepared(str(random_embeddinggemma()), "int8")
    model = EmbeddingModel.load(directory, num_threads=2)
    made = [text_of(length, model.tokenizer) for length in LENGTHS]
    texts = [made[number * 5 % len(made)] for number in range(max(CONCURRENCY.values()))]
    longest = text_of(model.max_tokens, model.tokenizer)
    model.embed(made)
    started = time.perf_counter()
    with serving() as server:
        ready = time.perf_counter()
        served = asyncio.run(measure(server, model, texts, longest))
        served |= {"ready_after_s": ready - started, "measured_for_s": time.perf_counter() - ready}
    bare = served["bare_engine"]
    share = served["http"]["32"]["tokens_per_second"] / bare["tokens_per_second"]
    added = served["http"]["1"]["p50_ms"] - bare["one_text_p50_ms"]
    save(path, {**served, "share_of_bare_engine_at_32": share, "added_p50_ms_at_1": added})


if __name__ == "__main__":
    main()
