"""Megabytes of the worst text: memory stays bounded, others are answered, and memory comes back."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil
import pytest

from lab.server import Server, serve, token

MB = 1_000_000
CALLS = 64
USERS = [f"00000000-0000-4000-8000-{number:012x}" for number in range(4)]
LENGTH = 1_048_000


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    environment = {"MODEL_QUANTIZATION": "fp32", "RATE_LIMIT_PER_MIN": "100000"}
    with serve(tmp_path_factory.mktemp("flooded") / "log", environment) as running:
        with running.client() as client:
            assert client.post("/embed", json={"text": "still here"}).status_code == 200
        yield running


def memory(server: Server) -> int:
    """Resident bytes of all processes of the server."""
    first = psutil.Process(server.process.pid)
    return sum(process.memory_info().rss for process in (first, *first.children(recursive=True)))


@contextmanager
def peak_memory(server: Server) -> Iterator[list[int]]:
    """Seen fifty times a second; the last entry is the highest."""
    peaks, over = [memory(server)], Event()

    def watch() -> None:
        while not over.wait(0.02):
            peaks.append(max(peaks[-1], memory(server)))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


async def flood(server: Server, body: dict[str, object]) -> tuple[list[int], list[int]]:
    """Statuses of the flood, and of another user's queries meanwhile."""
    limits, timeout = httpx.Limits(max_connections=2 * CALLS), 300

    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=timeout) as client:

        async def call(number: int) -> int:
            headers = {"Authorization": f"Bearer {token(USERS[number % len(USERS)])}"}
            return (await client.post("/embed", json=body, headers=headers)).status_code

        async def query() -> int:
            headers = {"Authorization": f"Bearer {token()}"}
            text = {"text": "still here"}
            return (await client.post("/embed", json=text, headers=headers)).status_code

        calls = [asyncio.create_task(call(number)) for number in range(CALLS)]
        others = []
        while not all(call.done() for call in calls):
            others.append(await query())
            await asyncio.sleep(0.05)
        return [call.result() for call in calls], others


@pytest.mark.parametrize(
    ("piece", "options", "status"),
    [
        (".", {}, 200),
        (".", {"truncate": False}, 422),
        (" ", {}, 200),
        ("한", {}, 200),
    ],
    ids=["dots", "dots-uncut", "spaces", "hangul"],
)
def test_64_of_them_take_150_mb_at_most_and_give_it_back(
    flooded: Server, piece: str, options: dict[str, object], status: int
) -> None:
    body = {"text": piece * (LENGTH // len(piece.encode())), **options}
    idle = memory(flooded)
    with peak_memory(flooded) as peaks:
        statuses, others = asyncio.run(flood(flooded, body))
    assert statuses == [status] * CALLS
    assert set(others) == {200}
    assert peaks[-1] - idle < 150 * MB
    deadline = time.monotonic() + 10
    while memory(flooded) - idle > 50 * MB and time.monotonic() < deadline:
        time.sleep(0.2)
    assert memory(flooded) - idle < 50 * MB


def test_a_text_may_have_a_mebi_of_characters(flooded: Server) -> None:
    with flooded.client() as client:
        assert client.post("/embed", json={"text": "word" * 262_144}).status_code == 200
        refused = client.post("/embed", json={"text": "word" * 262_144 + "s"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "text")
    assert "1048577 characters and the limit is 1048576" in refused.json()["error"]["message"]
