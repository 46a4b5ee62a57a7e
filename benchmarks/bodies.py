"""Measure how long the worst body of each kind blocks the event loop.

python -m benchmarks.bodies
"""

import asyncio
import contextlib
import time

from api.dialects.native import BatchEmbedRequest
from api.dialects.openai import EmbeddingsRequest
from api.errors import RequestError
from api.options import Body, Limits
from api.wire import read_json
from lab.worst_bodies import TEXTS, for_openai, worst_bodies

ROUNDS = 5
LIMITS = Limits(max_texts=TEXTS)


async def longest_turn(model: type[Body], body: bytes) -> float:
    """CPU seconds of the longest turn of the event loop while `body` is read."""
    longest = 0.0
    since = time.thread_time()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    async def watch() -> None:
        nonlocal longest, since
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest = max(longest, now - since)
            since = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    with contextlib.suppress(RequestError):
        await read_json(model, receive, limits=LIMITS)
    await asyncio.sleep(0)
    watching.cancel()
    return longest


def main() -> None:
    for name, body in worst_bodies().items():
        turns = [
            min(asyncio.run(longest_turn(model, sent)) for _ in range(ROUNDS)) * 1000
            for model, sent in ((BatchEmbedRequest, body), (EmbeddingsRequest, for_openai(body)))
        ]
        print(f"{name:34} {len(body) / 1e6:5.1f} MB  longest turn {max(turns):5.1f} ms", flush=True)


if __name__ == "__main__":
    main()
