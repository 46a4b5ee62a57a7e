"""Texts that were embedded before: over HTTP, with a real Redis behind cache and quotas."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.redis_server import RedisServer
from lab.server import Server, serve, token
from tests.live.conftest import PLENTY
from tests.live.test_metrics import value

SECRET = "a-secret-of-the-cache-of-48-characters-for-tests"
PER_DAY = 100_000
SPACE = 2_000_000  # bytes, of about 1,000 vectors
ENVIRONMENT = PLENTY | {
    "MODEL_QUANTIZATION": "fp32",
    "TOKENS_PER_DAY": str(PER_DAY),
    "CACHE_BYTES": str(SPACE),
    "CACHE_SCOPE": "all",
    "CACHE_REDIS_BYTES": "10000000",
    "CACHE_SECRET": SECRET,
}
NO_STORE = {"Cache-Control": "max-age=0, no-store"}
on_source = pytest.mark.parametrize("server", ["source"], indirect=True)


@pytest.fixture(scope="module")
def sharing(
    tmp_path_factory: pytest.TempPathFactory, model_store: Path, redis: RedisServer
) -> Iterator[Server]:
    environment = ENVIRONMENT | {"REDIS_URL": redis.url}
    with serve(tmp_path_factory.mktemp("sharing") / "log", environment) as running:
        yield running
    assert SECRET not in running.log()


@pytest.fixture
def user() -> str:
    """With a day's tokens."""
    return token(str(uuid.uuid4()))


def new_text() -> str:
    return f"text number {uuid.uuid4()}"


def embed(server: Server, bearer: str, text: str, **headers: str) -> dict[str, Any]:
    with server.client(bearer) as client:
        answer = client.post("/embed", json={"text": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def spent(server: Server, bearer: str) -> int:
    with server.client(bearer) as client:
        return PER_DAY - int(client.get("/usage").json()["tokens"]["remaining"])


def cached(answer: dict[str, Any]) -> bool:
    """Whether all its tokens were."""
    usage = answer["usage"]
    assert usage["cached_tokens"] in (0, usage["total_tokens"])
    return bool(usage["cached_tokens"])


def test_a_text_that_was_embedded_before_costs_no_tokens(sharing: Server, user: str) -> None:
    text = new_text()
    first = embed(sharing, user, text)
    assert spent(sharing, user) == first["usage"]["total_tokens"]
    again = embed(sharing, user, text)
    assert (cached(first), cached(again)) == (False, True)
    assert again["embedding"] == first["embedding"]
    assert spent(sharing, user) == first["usage"]["total_tokens"]


def test_its_vector_has_the_bits_of_the_engine(sharing: Server, user: str) -> None:
    text = new_text()
    answers = [embed(sharing, user, text) for _ in range(2)]
    computed = embed(sharing, user, text, **NO_STORE)
    assert [cached(answer) for answer in (*answers, computed)] == [False, True, False]
    assert all(answer["embedding"] == computed["embedding"] for answer in answers)


def test_a_request_with_no_store_leaves_nothing_behind(sharing: Server, user: str) -> None:
    text = new_text()
    assert not cached(embed(sharing, user, text, **NO_STORE))
    assert not cached(embed(sharing, user, text))


def test_every_route_finds_the_texts_of_every_other(sharing: Server, user: str) -> None:
    texts = [new_text() for _ in range(3)]
    model = "sentence-transformers/all-MiniLM-L6-v2"
    with sharing.client(user) as client:
        usages = [
            client.post(path, json=body).json()["usage"]
            for path, body in (
                ("/batch-embed", {"texts": texts}),
                ("/v1/embeddings", {"input": texts, "model": model, "encoding_format": "base64"}),
                ("/similarity", {"text": texts[0], "texts": texts[1:]}),
                ("/embed", {"text": texts[0], "encoding_format": "int8"}),
            )
        ]
    assert [usage["cached_tokens"] for usage in usages] == [
        0, *(usage["total_tokens"] for usage in usages[1:])
    ]  # fmt: skip


def test_a_text_that_repeats_in_a_request_is_charged_once(sharing: Server, user: str) -> None:
    text = new_text()
    with sharing.client(user) as client:
        answer = client.post("/batch-embed", json={"texts": [text] * 10}).json()
    usage = answer["usage"]
    assert usage["cached_tokens"] == 0.9 * usage["total_tokens"]
    assert spent(sharing, user) == usage["total_tokens"] - usage["cached_tokens"]
    assert all(vector == answer["embeddings"][0] for vector in answer["embeddings"])


async def test_64_callers_of_one_new_text_cause_one_forward_pass_that_one_of_them_pays(
    sharing: Server,
) -> None:
    users = [token(str(uuid.uuid4())) for _ in range(64)]
    before = value(sharing, "embed_batch_texts_sum")
    text = " ".join(new_text() for _ in range(20))
    async with httpx.AsyncClient(base_url=sharing.url, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    "/embed", json={"text": text}, headers={"Authorization": f"Bearer {bearer}"}
                )
                for bearer in users
            )
        )
    usages = [answer.json()["usage"] for answer in answers]
    assert value(sharing, "embed_batch_texts_sum") - before == 1
    assert sum(usage["cached_tokens"] == 0 for usage in usages) == 1


@on_source
def test_by_default_users_find_only_their_own_texts(server: Server, user: str) -> None:
    text, other = new_text(), token(str(uuid.uuid4()))
    answers = [embed(server, bearer, text) for bearer in (user, other, user, other)]
    assert [cached(answer) for answer in answers] == [False, False, True, True]


def test_other_sizes_come_from_the_same_vector(gemma_server: Server, user: str) -> None:
    text = new_text()
    with gemma_server.client(user) as client:
        whole, shorter = (
            client.post("/embed", json={"text": text, "dimensions": size}).json()
            for size in (768, 128)
        )
        computed = client.post("/embed", json={"text": text, "dimensions": 128}, headers=NO_STORE)
        prompted = client.post("/embed", json={"text": text, "task": "query"}).json()
    assert (cached(whole), cached(shorter), cached(prompted)) == (False, True, False)
    assert shorter["embedding"] == computed.json()["embedding"]


def test_another_process_finds_what_redis_has(
    sharing: Server, redis: RedisServer, tmp_path: Path, user: str
) -> None:
    texts = [new_text() for _ in range(20)]
    computed = [embed(sharing, user, text)["embedding"] for text in texts]
    with serve(tmp_path / "log", ENVIRONMENT | {"REDIS_URL": redis.url}) as other:
        found = [embed(other, user, text) for text in texts]
        assert [answer["embedding"] for answer in found] == computed
        hits = value(other, "embed_cache_hits_total", origin="redis")
        # A busy machine may take longer than the few milliseconds that are waited for.
        assert hits == sum(map(cached, found)) > 0


def test_what_happens_is_counted(sharing: Server, user: str) -> None:
    names = ("memory", "redis", "repeated", "in_flight")
    text, flood = new_text(), [f"{number} words" for number in range(1_200)]

    def counts() -> list[float]:
        hits = [value(sharing, "embed_cache_hits_total", origin=name) for name in names]
        return [*hits, value(sharing, "embed_cache_misses_total")]

    before = counts()
    with sharing.client(user) as client:
        for texts in ([text, text], [text]):
            client.post("/batch-embed", json={"texts": texts})
        assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 0, 1, 0, 1]
        assert client.post("/batch-embed", json={"texts": flood}).status_code == 200
    assert 0.99 * SPACE < value(sharing, "embed_cache_bytes") <= SPACE
    assert value(sharing, "embed_cache_evictions_total") > 0
