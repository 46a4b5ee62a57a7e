"""A text has one vector: alone, in a batch, beside other users, in a job, on any threads."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

import bentoml
import httpx
import pytest

from embedder.model import EmbeddingModel
from embedder.profile import model_tag
from lab.server import Server, serve, token
from tests.live import bulk
from tests.live.conftest import PLENTY

TEXTS = {f"id-{number}": text for number, text in enumerate(bulk.texts(16, words=60))}


@pytest.fixture(scope="module")
def settings(gemma_directory: Path) -> Mapping[str, str]:
    return {"MODEL_NAME": str(gemma_directory), "MODEL_QUANTIZATION": "fp32"}


@pytest.fixture(scope="module")
def alone(gemma_directory: Path) -> dict[str, bytes]:
    """Each text's vector, by the engine without a service, one text at a time."""
    tag = model_tag(str(gemma_directory), "fp32", "native")
    model = EmbeddingModel.load(Path(bentoml.models.get(tag).path), num_threads=1)
    return {key: model.embed([text])[0].tobytes() for key, text in TEXTS.items()}


async def users_vectors(server: Server, user: int) -> dict[str, bytes]:
    """By one request for each text, or by one for all, in an order of the user's own."""
    keys = [*TEXTS][user:] + [*TEXTS][:user]
    headers = {"Authorization": f"Bearer {token(f'00000000-0000-4000-8000-{user:012}')}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120) as client:

        async def request(some: list[str]) -> list[str]:
            body = {"texts": [TEXTS[key] for key in some], "encoding_format": "base64"}
            answer = await client.post("/batch-embed", json=body)
            vectors: list[str] = answer.raise_for_status().json()["embeddings"]
            return vectors

        requests = [keys] if user % 2 else [[key] for key in keys]
        answers = await asyncio.gather(*map(request, requests))
    vectors = [b64decode(vector) for answer in answers for vector in answer]
    return dict(zip(keys, vectors, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 4])
async def test_vectors_over_http_are_the_same_bits_alone_and_beside_other_users(
    threads: int, settings: Mapping[str, str], alone: Mapping[str, bytes], tmp_path: Path
) -> None:
    environment = {**PLENTY, **settings, "NUM_THREADS": str(threads)}
    with serve(tmp_path / "log", environment) as server:
        for users in (range(1), range(1, 2), range(6)):
            for found in await asyncio.gather(*(users_vectors(server, user) for user in users)):
                assert found == alone


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_vectors_of_jobs_are_the_same_bits(
    threads: int, settings: Mapping[str, str], alone: Mapping[str, bytes], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"id": key, "text": text} for key, text in TEXTS.items()]
    corpus.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = ("--id", "id", "--part-rows", "7", "--threads", str(threads))
    ran = bulk.run("embed_dataset", corpus, tmp_path / "out", *options, more=settings)
    assert ran.returncode == 0, ran.stderr
    assert bulk.vectors(tmp_path / "out") == alone
