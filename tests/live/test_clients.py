"""Unmodified clients get right vectors and their library's exceptions, and wait after 429."""

import threading
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import bentoml
import numpy as np
import openai
import pytest
from bentoml.exceptions import BentoMLException
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from lab.server import Server, token
from tests.live.client_texts import MANY, MODEL, TEXTS
from tests.live.occupied import occupied, refusals, wait_until_refused

ANON_KEY = token(role="anon", sub=None, aud=None)

Embed = Callable[..., list[list[float]]]  # server, token, texts or TEXTS -> their vectors


def by_openai(server: Server, bearer: str, texts: list[str] = TEXTS) -> list[list[float]]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=bearer) as client:
        return [item.embedding for item in client.embeddings.create(model=MODEL, input=texts).data]


def langchain(server: Server, bearer: str) -> OpenAIEmbeddings:
    arguments: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": bearer}
    return OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False, **arguments)


def by_langchain(server: Server, bearer: str, texts: list[str] = TEXTS) -> list[list[float]]:
    return langchain(server, bearer).embed_documents(texts)


def by_llamaindex(server: Server, bearer: str, texts: list[str] = TEXTS) -> list[list[float]]:
    embedder = OpenAILikeEmbedding(model_name=MODEL, api_base=f"{server.url}/v1", api_key=bearer)
    vectors: list[list[float]] = embedder.get_text_embedding_batch(texts)
    return vectors


def by_bentoml(server: Server, bearer: str, texts: list[str] = TEXTS) -> list[list[float]]:
    with bentoml.SyncHTTPClient(server.url, token=bearer) as client:
        embeddings: list[list[float]] = client.batch_embed(texts=texts)["embeddings"]
        return embeddings


PYTHON_CLIENTS = [by_openai, by_langchain, by_llamaindex, by_bentoml]
OPENAI_CLIENTS = [by_openai, by_langchain, by_llamaindex]


@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning"
)  # LangChain's and LlamaIndex's own clients
@pytest.mark.parametrize("embed", PYTHON_CLIENTS)
def test_a_client_gets_the_vectors_of_our_own_route(
    server: Server, expected: np.ndarray, embed: Embed
) -> None:
    """To the bit: OpenAI's client asks for base64 by itself."""
    np.testing.assert_array_equal(np.array(embed(server, token()), np.float32), expected)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("embed", PYTHON_CLIENTS)
def test_a_client_reads_an_answer_that_comes_in_pieces(
    server: Server, expected: np.ndarray, embed: Embed
) -> None:
    vectors = np.array(embed(server, token(), MANY), np.float32)
    np.testing.assert_allclose(vectors, np.tile(expected, (150, 1)), atol=1e-5)


async def test_async_clients_get_the_vectors_of_sync_ones(
    server: Server, expected: np.ndarray
) -> None:
    async with bentoml.AsyncHTTPClient(server.url, token=token()) as client:
        answer = await client.batch_embed(texts=TEXTS)
    np.testing.assert_array_equal(np.array(answer["embeddings"], np.float32), expected)
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token()) as client:
        answer = await client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    np.testing.assert_array_equal(
        np.array([item.embedding for item in answer.data], np.float32), expected
    )


def test_openais_answer_has_all_its_fields(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=token()) as client:
        answer = client.embeddings.create(
            model=MODEL, input="hello", user="somebody", dimensions=384
        )
        usage = answer.usage
        assert (answer.object, answer.model, usage.prompt_tokens, usage.total_tokens) == (
            "list", MODEL, 3, 3,
        )  # fmt: skip
        assert [(item.object, item.index, len(item.embedding)) for item in answer.data] == [
            ("embedding", 0, 384)
        ]
        [listed] = client.models.list()
        assert client.models.retrieve(MODEL) == listed
        assert (listed.id, listed.object, listed.owned_by) == (
            MODEL,
            "model",
            "sentence-transformers",
        )
        assert abs(listed.created - time.time()) < 3600


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2, 3], [4]], [[]]])
def test_token_ids_are_refused_with_the_remedy(server: Server, ids: Any) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=token()) as client,
        pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length=False"),
    ):
        client.embeddings.create(model=MODEL, input=ids)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("embed", OPENAI_CLIENTS)
@pytest.mark.parametrize(
    ("bearer", "error", "told"),
    [
        ("nonsense", openai.AuthenticationError, "not a JSON Web Token|token_invalid"),
        (token(exp=int(time.time()) - 3600), openai.AuthenticationError, "expired"),
        (ANON_KEY, openai.PermissionDeniedError, "project API key"),
    ],
    ids=["garbage", "expired", "anon key"],
)
def test_a_refused_token_is_openais_own_exception(
    server: Server, embed: Embed, bearer: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        embed(server, bearer)


def test_other_refusals_are_openais_own_exceptions(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=token()) as client:
        with pytest.raises(openai.NotFoundError, match=MODEL) as unknown:
            client.embeddings.create(model="text-embedding-3-small", input="a")
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.UnprocessableEntityError, match="384"):
            client.embeddings.create(model=MODEL, input="a", dimensions=1536)
        with pytest.raises(openai.UnprocessableEntityError, match="at least 1 character"):
            client.embeddings.create(model=MODEL, input="")
        with pytest.raises(openai.ConflictError, match="do not mix"):
            client.embeddings.create(model=MODEL, input="a", extra_headers={"If-Fingerprint": "0"})
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("text-embedding-3-small")


def test_a_client_with_a_fixed_model_name_is_served_by_an_alias(one_at_a_time: Server) -> None:
    with openai.OpenAI(base_url=f"{one_at_a_time.url}/v1", api_key=token()) as client:
        listed = [model.id for model in client.models.list()]
        assert listed == [MODEL, "text-embedding-3-small", "text-embedding-ada-002"]
        assert client.models.retrieve("text-embedding-3-small").id == "text-embedding-3-small"
        named, plain = (
            client.embeddings.create(model=name, input="a")
            for name in ("text-embedding-ada-002", MODEL)
        )
    assert named.data == plain.data
    assert named.model == MODEL


def test_what_proxies_of_clients_add_is_ignored(server: Server) -> None:
    """LiteLLM sends nulls; RAGFlow sends drop_params."""
    body = {
        "model": MODEL,
        "input": "a",
        "encoding_format": None,
        "dimensions": None,
        "drop_params": True,
    }
    with server.client() as client:
        assert client.post("/v1/embeddings", json=body).status_code == 200
        refused = client.post("/v1/embeddings", json=body | {"input_type": "query"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "input_type")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("embed", OPENAI_CLIENTS)
def test_a_client_waits_as_long_as_retry_after_says(one_at_a_time: Server, embed: Embed) -> None:
    user = str(uuid.uuid4())
    started = time.monotonic()
    before = refusals(one_at_a_time, "/v1/embeddings")
    with occupied(one_at_a_time, user):
        answers: list[list[list[float]]] = []
        call = threading.Thread(target=lambda: answers.append(embed(one_at_a_time, token(user))))
        call.start()
        wait_until_refused(one_at_a_time, "/v1/embeddings", before=before)
        assert not answers
    call.join(20)
    assert len(answers[0]) == len(TEXTS)
    assert time.monotonic() - started >= 1


def test_a_client_that_does_not_wait_is_told_how_long(one_at_a_time: Server) -> None:
    user = str(uuid.uuid4())
    with (
        occupied(one_at_a_time, user),
        openai.OpenAI(
            base_url=f"{one_at_a_time.url}/v1", api_key=token(user), max_retries=0
        ) as client,
        pytest.raises(openai.RateLimitError, match="being served") as limited,
    ):
        client.embeddings.create(model=MODEL, input="a")
    assert limited.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("bearer", "body", "status"),
    [
        ("nonsense", {"text": "a"}, HTTPStatus.UNAUTHORIZED),
        (token(), {"text": ""}, HTTPStatus.UNPROCESSABLE_ENTITY),
        (token(), {"text": "a", "task": "query"}, HTTPStatus.UNPROCESSABLE_ENTITY),
    ],
)
def test_a_refusal_is_bentomls_own_exception(
    server: Server, bearer: str, body: dict[str, Any], status: HTTPStatus
) -> None:
    with (
        bentoml.SyncHTTPClient(server.url, token=bearer) as client,
        pytest.raises(BentoMLException, match="message") as refused,
    ):
        client.embed(**body)
    assert refused.value.error_code == status
