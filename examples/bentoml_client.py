"""Embed with BentoML's own clients, sync and async.

JWT_TOKEN=... python examples/bentoml_client.py [http://127.0.0.1:8000]
"""

import asyncio
import os
import sys

import bentoml


def main(url: str, token: str) -> None:
    with bentoml.SyncHTTPClient(url, token=token) as client:
        answer = client.embed(text="A man is playing a guitar")
        print(answer["model"], answer["dimensions"], answer["embedding"][:3])


async def main_async(url: str, token: str) -> None:
    async with bentoml.AsyncHTTPClient(url, token=token) as client:
        answer = await client.batch_embed(
            texts=["Someone plays an instrument", "The stock market fell today"]
        )
        print(len(answer["embeddings"]), answer["usage"])


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    main(url, os.environ["JWT_TOKEN"])
    asyncio.run(main_async(url, os.environ["JWT_TOKEN"]))
