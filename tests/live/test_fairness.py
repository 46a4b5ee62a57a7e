"""Users with far too much work, and one with a single query."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from lab.server import Server, serve, token

# LangChain's default batch of its usual chunks. Texts are cut at 8 tokens, so that a batch takes
# seconds. One fits into a user's share, and two into the bound on all.
BATCH = {
    "model": "sentence-transformers/all-MiniLM-L6-v2",
    "input": ["word " * 200] * 1000,
    "encoding_format": "base64",
}
ENVIRONMENT = {
    "MODEL_QUANTIZATION": "fp32",
    "RATE_LIMIT_PER_MIN": "100000",
    "MAX_SEQ_LENGTH": "8",
    "MAX_QUEUE_TOKENS": "131072",
    "MAX_USER_QUEUE_TOKENS": "65000",
}
SINGLE = "00000000-0000-4000-8000-00000000000b"


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory, model_store: object) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("fair") / "log", ENVIRONMENT) as running:
        yield running


@asynccontextmanager
async def calling(server: Server, user: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token(user)}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=300) as client:
        yield client


async def embedded(client: httpx.AsyncClient, refusals: "Counter[str]") -> None:
    """A batch, sent again when the service says so."""
    while True:
        answer = await client.post("/v1/embeddings", json=BATCH)
        if answer.status_code == 200:
            assert len(answer.json()["data"]) == len(BATCH["input"])
            return
        refusals[answer.json()["error"]["code"]] += 1
        wait = int(answer.headers["retry-after"])
        assert 1 <= wait <= 60
        await asyncio.sleep(wait)


async def crowd(server: Server, users: Sequence[str], *, batches: int) -> "Counter[str]":
    """Every user's batches, all sent at once; why they were refused meanwhile."""
    refusals = Counter[str]()

    async def user(name: str) -> None:
        async with calling(server, name) as client:
            await asyncio.gather(*(embedded(client, refusals) for _ in range(batches)))

    await asyncio.gather(*map(user, users))
    return refusals


async def beside(server: Server, users: Sequence[str], *, batches: int) -> "Counter[str]":
    """The same, while another user's queries are all answered."""
    async with calling(server, SINGLE) as client:
        others = asyncio.create_task(crowd(server, users, batches=batches))
        served = 0
        while not others.done():
            queries = [client.post("/embed", json={"text": "hello world"}) for _ in range(2)]
            answers = await asyncio.gather(*queries)
            assert [answer.status_code for answer in answers] == [200, 200], answers[-1].text
            served += not others.done()
        assert served > 2
        return await others


async def test_a_users_batches_keep_nobodys_query_out_and_all_get_through(fair: Server) -> None:
    refusals = await beside(fair, ["00000000-0000-4000-8000-00000000000a"], batches=2)
    assert set(refusals) == {"user_queue_full"}


async def test_ten_users_batches_keep_nobodys_query_out_and_all_get_through(fair: Server) -> None:
    users = [f"00000000-0000-4000-8000-0000000001{number:02}" for number in range(10)]
    refusals = await beside(fair, users, batches=1)
    assert set(refusals) == {"queue_full"}


def test_a_request_of_more_than_a_users_share_is_told_how_many_texts_fit(fair: Server) -> None:
    texts = ["a"] * 2048
    with fair.client() as client:
        refused = client.post("/batch-embed", json={"texts": texts})
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_many_tokens")
        assert "retry-after" not in refused.headers
        fit = int(re.findall(r"first (\d+) texts", refused.json()["error"]["message"])[0])
        assert fit == 65_000 // 64
        assert client.post("/batch-embed", json={"texts": texts[:fit]}).status_code == 200
