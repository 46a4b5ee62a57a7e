"""Compare the service over HTTP with the bare engine on the same texts (random weights, int8).

python -m benchmarks.serving [--json PATH]
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.load import Load, closed_loop, serving
from benchmarks.report import arguments, save
from embedder.model import EmbeddingModel
from lab.figures import percentile
from lab.models import prepared, random_embeddinggemma
from lab.server import Server
from lab.texts import text_of

# Requests at each concurrency; texts of 16 to 256 tokens.
CONCURRENCY = {1: 60, 8: 240, 32: 480}
ROUNDS = 3  # of the bare engine and the server in turns, so that a slow period affects both
LENGTHS = (16, 24, 32, 48, 64, 96, 128, 256)
QUERY = 16  # tokens of the text that one caller sends
QUERIES = 100  # per round
Figures = dict[str, float]


def alone(model: EmbeddingModel, text: str) -> float:
    """The median milliseconds of one text in this process, including tokenising."""
    seconds = []
    for _ in range(QUERIES):
        started = time.perf_counter()
        model.embed([text])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def bare_engine(model: EmbeddingModel, texts: list[str]) -> float:
    """Tokens per second with all texts in memory, including tokenising."""
    started = time.perf_counter()
    tokens = model.tokenizer.encode(texts, max_tokens=model.max_tokens)
    model.engine.forward([text.ids for text in tokens])
    return sum(len(text.ids) for text in tokens) / (time.perf_counter() - started)


def medians(rounds: list[Figures]) -> Figures:
    """The median of each figure over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def figures(load: Load) -> Figures:
    return {
        "p50_ms": percentile(load.latencies, 0.50) * 1000,
        "p95_ms": percentile(load.latencies, 0.95) * 1000,
        "p99_ms": percentile(load.latencies, 0.99) * 1000,
        "texts_per_second": len(load.latencies) / load.seconds,
        "tokens_per_second": load.tokens / load.seconds,
        "cpu_ms_per_request": load.cpu_seconds / len(load.latencies) * 1000,
    }


async def one_caller(server: Server, model: EmbeddingModel) -> Figures:
    """The latency that HTTP adds to a short text when there is no other caller."""
    query = text_of(QUERY, model.tokenizer)
    await closed_loop(server, [query] * QUERIES, concurrency=1)
    rounds = []
    for _ in range(ROUNDS):
        engine = alone(model, query)
        load = await closed_loop(server, [query] * QUERIES, concurrency=1)
        served = percentile(load.latencies, 0.5) * 1000
        rounds.append({"engine_p50_ms": engine, "p50_ms": served, "added_p50_ms": served - engine})
    return medians(rounds)


async def many_callers(server: Server, model: EmbeddingModel, texts: list[str]) -> dict[str, Any]:
    """Latency and throughput at each concurrency, and the throughput of the bare engine."""
    await closed_loop(server, texts[:20], concurrency=4)
    bare: list[float] = []
    served: dict[str, list[Figures]] = {str(concurrency): [] for concurrency in CONCURRENCY}
    for _ in range(ROUNDS):
        bare.append(bare_engine(model, texts))
        for concurrency, count in CONCURRENCY.items():
            load = await closed_loop(server, texts[:count], concurrency=concurrency)
            served[str(concurrency)].append(figures(load))
    rates = [one["tokens_per_second"] for one in served["32"]]
    return {
        "bare_engine": {"tokens_per_second": statistics.median(bare)},
        "http": {concurrency: medians(rounds) for concurrency, rounds in served.items()},
        "share_of_bare_engine_at_32": statistics.median(
            rate / engine for rate, engine in zip(rates, bare, strict=True)
        ),
    }


def loaded(directory: Path | None) -> EmbeddingModel:
    name = str(directory) if directory else None
    return EmbeddingModel.load(prepared(name, "int8"), num_threads=2)


def main() -> None:
    path = arguments("serving", __doc__).json
    gemma = random_embeddinggemma()
    model = loaded(gemma)
    starter = loaded(None)
    made = [text_of(length, model.tokenizer) for length in LENGTHS]
    texts = [made[number * 5 % len(made)] for number in range(max(CONCURRENCY.values()))]
    with serving(gemma) as server:
        found = asyncio.run(many_callers(server, model, texts))
        found["one_caller"] = {"EmbeddingGemma": asyncio.run(one_caller(server, model))}
    with serving(None) as server:
        found["one_caller"]["starter"] = asyncio.run(one_caller(server, starter))
    save(path, found)


if __name__ == "__main__":
    main()
