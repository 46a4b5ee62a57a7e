"""A real server under load: callers over HTTP, and the CPU and memory of the server."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from lab.models import FULL_SIZE, prepared
from lab.server import CACHE, Server, serve, token

USERS = [f"00000000-0000-4000-8000-{number:012x}" for number in range(64)]


@contextmanager
def serving(
    model: Path | None = FULL_SIZE, *, bounded: bool = False, cached: bool = False
) -> Iterator[Server]:
    """Run the service in int8.

    Args:
        model: the directory of the model; None for the starter model.
        bounded: keep the default limits of queue and concurrency. Quotas are never reached.
        cached: with the cache of texts that were embedded before.
    """
    name = str(model) if model else ""
    prepared(name or None, "int8")
    environment = {
        "BENTOML_HOME": os.environ["BENTOML_HOME"],
        "MODEL_NAME": name,
        "RATE_LIMIT_PER_MIN": "10000000",
    }
    if not bounded:
        environment |= dict.fromkeys(
            ("MAX_QUEUE_TOKENS", "MAX_USER_QUEUE_TOKENS", "MAX_CONCURRENT_PER_USER"), "1000000"
        )
    if cached:
        environment |= CACHE
    with (
        tempfile.TemporaryDirectory() as directory,
        serve(Path(directory) / "log", environment) as server,
    ):
        yield server


@asynccontextmanager
async def caller(server: Server, user: str = USERS[0]) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client with a token of `user`. aiohttp, since it takes little of the server's CPU."""
    headers = {"Authorization": f"Bearer {token(user)}"}
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(
        server.url, headers=headers, timeout=timeout, connector=connector
    ) as client:
        yield client


async def post(client: aiohttp.ClientSession, path: str, body: object) -> Any:
    """Send a POST and return the JSON. Raises aiohttp.ClientResponseError for an error status."""
    async with client.post(path, json=body) as answer:
        answer.raise_for_status()
        return await answer.json()


@dataclass
class Load:
    """The measurements of a load."""

    latencies: list[float] = field(default_factory=list)  # seconds
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the server's processes


async def closed_loop(server: Server, texts: Sequence[str], *, concurrency: int) -> Load:
    """Send every text once, with `concurrency` callers."""
    load = Load()
    waiting = iter(texts)
    async with caller(server) as client:

        async def work() -> None:
            for text in waiting:
                started = time.perf_counter()
                answer = await post(client, "/embed", {"text": text})
                load.latencies.append(time.perf_counter() - started)
                load.tokens += answer["usage"]["total_tokens"]

        await work_off(server, load, [work() for _ in range(concurrency)])
    return load


async def work_off(server: Server, load: Load, workers: Sequence[object]) -> None:
    before = cpu_seconds(server)
    started = time.perf_counter()
    await asyncio.gather(*workers)  # type: ignore[call-overload]
    load.seconds = time.perf_counter() - started
    load.cpu_seconds = cpu_seconds(server) - before


def processes(server: Server) -> list[psutil.Process]:
    """The supervisor and its descendants."""
    supervisor = psutil.Process(server.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def pss_mb(server: Server) -> dict[str, float]:
    """Megabytes (PSS) by process, the supervisor first; shared pages are divided."""
    sizes = [float(process.memory_full_info().pss) / 1e6 for process in processes(server)]
    return {f"process {number}": size for number, size in enumerate(sizes)} | {"all": sum(sizes)}


def cpu_seconds(server: Server) -> float:
    return float(
        sum(
            float(used.user + used.system)
            for used in (process.cpu_times() for process in processes(server))
        )
    )
