"""Measure the latency of one user's query while one or ten other users send batches.

    python -m benchmarks.fairness [--json PATH]

Batches are LangChain's default: 1,000 texts of 1,000 characters. Limits of the queue are defaults.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson

from benchmarks.load import USERS, caller, post, serving
from benchmarks.report import arguments, save
from embedder.model import EmbeddingModel
from lab.figures import percentile, spread
from lab.models import prepared, random_embeddinggemma
from lab.results import ONE_USER, TEN_USERS
from lab.server import Server, token
from lab.texts import text_of

QUERIES = 100
PACK_TOKENS = 256
BATCH_TEXTS, BATCH_CHARACTERS = 1000, 1000
CROWDS = {ONE_USER: 1, TEN_USERS: 10}
STEADY, LONGEST = 2.0, 60.0  # seconds without a new highest of the queue; until then at most


async def latencies(server: Server, query: str) -> list[float]:
    """Seconds of each call of one user, in sequence with pauses. All calls must succeed."""
    seconds = []
    async with caller(server, USERS[0]) as client:
        for _ in range(QUERIES):
            started = time.perf_counter()
            await post(client, "/embed", {"text": query})
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)
    return seconds


@contextmanager
def crowd(server: Server, users: int, body: bytes) -> Iterator[None]:
    """Other users, in their own process so that they do not delay the measured calls."""
    arguments = (server.url, [token(user) for user in USERS[1 : users + 1]], body)
    process = get_context("spawn").Process(target=run_crowd, args=arguments, daemon=True)
    process.start()
    try:
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


def wait_until_queued(server: Server) -> None:
    """Until the crowd's batches have been tokenised: the queue grows no more."""
    highest = 0.0
    since = time.monotonic()
    deadline = since + LONGEST
    while not highest or time.monotonic() - since < STEADY:
        if time.monotonic() > deadline:
            raise TimeoutError("the crowd's batches were not queued")
        time.sleep(0.1)
        queued = queued_tokens(server)
        if queued > highest:
            highest = queued
            since = time.monotonic()


def queued_tokens(server: Server) -> float:
    """As the service reports it."""
    metrics = httpx.get(f"{server.url}/metrics").text
    [line] = (line for line in metrics.splitlines() if line.startswith("embed_queue_tokens "))
    return float(line.split()[1])


def run_crowd(url: str, tokens: Sequence[str], body: bytes) -> None:
    async def everybody() -> None:
        await asyncio.gather(*(batches(url, bearer, body) for bearer in tokens))

    asyncio.run(everybody())


async def batches(url: str, bearer: str, body: bytes) -> None:
    """Send batches of one user without end; waits as long as Retry-After says."""
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as client:
        while True:
            async with client.post("/v1/embeddings", data=body) as answer:
                await answer.read()
            if answer.status != 200:
                await asyncio.sleep(int(answer.headers["Retry-After"]))


def texts_for(model: EmbeddingModel) -> tuple[str, bytes, float]:
    """The query, the body of a batch, and the median seconds of one forward pass of it."""
    text = text_of(2 * BATCH_CHARACTERS, model.tokenizer)[:BATCH_CHARACTERS]
    batch = {
        "model": model.profile.model_id,
        "input": [text] * BATCH_TEXTS,
        "encoding_format": "base64",
    }
    [read] = model.tokenizer.encode([text], max_tokens=model.max_tokens)
    pack = [read.ids] * max(1, PACK_TOKENS // len(read.ids))
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        model.engine.forward(pack)
        seconds.append(time.perf_counter() - started)
    return text_of(16, model.tokenizer), orjson.dumps(batch), spread(seconds)["median"]


def measure(directory: Path | None) -> dict[str, Any]:
    """The figures of one model; of the starter model when `directory` is None."""
    name = str(directory) if directory else None
    model = EmbeddingModel.load(prepared(name, "int8"), num_threads=len(os.sched_getaffinity(0)))
    query, body, pack = texts_for(model)
    del model
    with serving(directory, bounded=True) as server:
        asyncio.run(latencies(server, query))
        found = {"alone": asyncio.run(latencies(server, query))}
        for condition, users in CROWDS.items():
            with crowd(server, users, body):
                wait_until_queued(server)
                found[condition] = asyncio.run(latencies(server, query))
    bound = 3 * percentile(found["alone"], 0.5) + pack
    figures = {condition: row(seconds, bound) for condition, seconds in found.items()}
    return {"pack_ms": pack * 1000, "bound_ms": bound * 1000, **figures}


def row(seconds: Sequence[float], bound: float) -> dict[str, float]:
    p50 = percentile(seconds, 0.5)
    p95 = percentile(seconds, 0.95)
    return {"p50_ms": p50 * 1000, "p95_ms": p95 * 1000, "share_of_bound": p95 / bound}


def main() -> None:
    path = arguments("fairness", __doc__).json
    load = os.getloadavg()[0]
    models = {"starter": None, "EmbeddingGemma": random_embeddinggemma()}
    figures = {name: measure(directory) for name, directory in models.items()}
    save(path, {"load_average_before": load, "models": figures})


if __name__ == "__main__":
    main()
