"""Options of every route that embeds: sizes, encodings, truncation, fingerprints."""

import base64
import uuid
from typing import Any

import httpx
import numpy as np
import pytest

from lab.server import Server, token
from tests.live.calls import MODEL, TEXTS, answer, every_route, post, refusal, vectors

LONG = "word " * 2000


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        (
            {"task": "translation"},
            "task",
            "query, document, classification, clustering, similarity",
        ),
        ({"title": "t"}, "title", "documents"),
        ({"task": "query", "title": "t"}, "title", "documents"),
        ({"task": "document", "title": ["a", "b"]}, "title", "2 titles for 1 texts"),
        ({"dimensions": 100}, "dimensions", "768, 512, 256, 128"),
        ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"encoding_format": "int4"}, "encoding_format", "'float', 'base64', 'int8' or 'binary'"),
    ],
)
def test_what_the_model_does_not_have_is_refused_on_every_route(
    gemma_server: Server, options: dict[str, Any], param: str, told: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/embed": {"text": "a"},
        "/batch-embed": {"texts": ["a"]},
        "/v1/embeddings": {"input": "a", "model": MODEL},
    }
    for path, body in bodies.items():
        error = refusal(gemma_server, path, **body, **options)
        assert error["param"] == param
        assert told in error["message"]


@pytest.mark.parametrize("dimensions", [768, 512, 256, 128])
def test_fewer_dimensions_are_the_first_ones_with_length_one(
    gemma_server: Server, dimensions: int
) -> None:
    whole, shorter = vectors(gemma_server), vectors(gemma_server, dimensions=dimensions)
    expected = whole[:, :dimensions] / np.linalg.norm(whole[:, :dimensions], axis=1, keepdims=True)
    np.testing.assert_allclose(shorter, expected, atol=1e-7)
    assert (
        answer(gemma_server, "/embed", text="a", dimensions=dimensions)["dimensions"] == dimensions
    )


@pytest.mark.parametrize("options", [{}, {"task": "query"}, {"dimensions": 128}])
def test_a_text_has_one_vector_on_all_routes_and_in_all_encodings(
    gemma_server: Server, options: dict[str, Any]
) -> None:
    for text in TEXTS:
        floats = np.array(every_route(gemma_server, text, **options), np.float32)
        assert (floats == floats[0]).all()
        scale = np.abs(floats[0]).max()
        for encoding, expected in {
            "base64": base64.b64encode(floats[0].astype("<f4").tobytes()).decode(),
            "int8": [round(value) for value in floats[0].astype(float) / scale * 127],
            "binary": [
                int("".join(map(str, byte)), 2)
                for byte in (floats[0] > 0).astype(int).reshape(-1, 8)
            ],
        }.items():
            assert (
                every_route(gemma_server, text, encoding_format=encoding, **options)
                == [expected] * 3
            )


def test_a_text_over_the_limit_is_cut_and_named(gemma_server: Server) -> None:
    long = "word " * 2000
    body = answer(gemma_server, "/batch-embed", texts=["short", long])
    assert (body["truncated"], body["tokens"][1]) == ([1], 1024)
    items = answer(gemma_server, "/v1/embeddings", model=MODEL, input=["short", long])["data"]
    assert [(item["truncated"], item["tokens"]) for item in items] == list(
        zip([False, True], body["tokens"], strict=True)
    )


def test_a_text_over_the_limit_is_refused_where_it_may_not_be_cut(gemma_server: Server) -> None:
    body = {"texts": ["short", "word " * 2000], "truncate": False}
    counted = answer(gemma_server, "/tokenize", texts=body["texts"])
    n_tokens = counted["texts"][1]["n_tokens"]
    for path in ("/batch-embed", "/tokenize"):
        message = refusal(gemma_server, path, **body)["message"]
        assert (
            f"text 1 has at least {n_tokens} tokens and the limit is {counted['max_tokens']}"
            in message
        )


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/embed", {"text": LONG}, "text"),
        ("/batch-embed", {"texts": ["a", LONG]}, "texts.1"),
        ("/v1/embeddings", {"input": LONG, "model": MODEL}, "input.0"),
        ("/v1/embeddings", {"input": ["a", LONG], "model": MODEL}, "input.1"),
        ("/tokenize", {"texts": ["a", LONG]}, "texts.1"),
        ("/similarity", {"text": LONG, "texts": ["a"]}, "text"),
        ("/similarity", {"text": "a", "texts": ["a", "b", LONG]}, "texts.2"),
    ],
)
def test_the_text_that_is_too_long_is_named(
    gemma_server: Server, path: str, body: dict[str, Any], param: str
) -> None:
    error = refusal(gemma_server, path, **body, truncate=False)
    assert (error["code"], error["param"]) == ("text_too_long", param)


def test_similarity_says_which_texts_were_cut(gemma_server: Server) -> None:
    for text, texts in ((LONG, ["a", "b"]), ("a", ["b", LONG])):
        said = answer(gemma_server, "/similarity", text=text, texts=texts)
        assert said["text_truncated"] == (text is LONG)
        assert said["truncated"] == [index for index, other in enumerate(texts) if other is LONG]


def test_texts_that_show_nothing_are_listed_on_every_route(gemma_server: Server) -> None:
    texts = ["a", " \n", "\u200b\ufeff", "b"]
    for path in ("/batch-embed", "/similarity"):
        assert answer(gemma_server, path, texts=texts)["empty"] == [1, 2]
    assert [answer(gemma_server, "/embed", text=text)["empty"] for text in texts] == [
        False,
        True,
        True,
        False,
    ]
    items = answer(gemma_server, "/v1/embeddings", model=MODEL, input=texts)["data"]
    counted = answer(gemma_server, "/tokenize", texts=texts)["texts"]
    assert (
        [item["empty"] for item in items]
        == [text["empty"] for text in counted]
        == [False, True, True, False]
    )
    assert answer(gemma_server, "/similarity", text=" ", texts=texts)["text_empty"]


def test_similarities_are_the_cosines_of_the_vectors(gemma_server: Server) -> None:
    documents, matrix = (
        vectors(gemma_server, task="document"),
        vectors(gemma_server, dimensions=128),
    )
    query = np.array(
        answer(gemma_server, "/embed", text="red", task="query")["embedding"], np.float32
    )
    one = answer(
        gemma_server, "/similarity", text="red", texts=TEXTS, task="document", text_task="query"
    )
    np.testing.assert_allclose(one["similarities"], documents @ query, atol=1e-6)
    every = answer(gemma_server, "/similarity", texts=TEXTS, dimensions=128)
    np.testing.assert_allclose(every["similarities"], matrix @ matrix.T, atol=1e-6)


def test_counting_and_comparing_are_metered(gemma_server: Server) -> None:
    with gemma_server.client(token(str(uuid.uuid4()))) as client:
        client.post("/tokenize", json={"texts": ["a"]})
        client.post("/similarity", json={"texts": ["a", "b"]})
        usage = client.get("/usage").json()["requests"]
    assert usage["limit"] - usage["remaining"] == 2


def test_every_answer_names_the_vector_space(gemma_server: Server) -> None:
    fingerprint = httpx.get(f"{gemma_server.url}/health").json()["fingerprint"]
    bodies: dict[str, dict[str, Any]] = {
        "/embed": {"text": "a"},
        "/batch-embed": {"texts": ["a"]},
        "/v1/embeddings": {"input": "a", "model": MODEL},
        "/tokenize": {"texts": ["a"]},
        "/similarity": {"texts": ["a"]},
    }
    for path, body in bodies.items():
        response = post(gemma_server, path, headers={"If-Fingerprint": fingerprint}, **body)
        assert (
            response.headers["x-embedding-fingerprint"]
            == response.json()["fingerprint"]
            == fingerprint
        )
        refused = post(gemma_server, path, headers={"If-Fingerprint": "0123456789ab"}, **body)
        assert refused.status_code == 409
        assert fingerprint in refused.json()["error"]["message"]
    for path in ("/health", "/nothing"):
        assert (
            httpx.get(f"{gemma_server.url}{path}").headers["x-embedding-fingerprint"] == fingerprint
        )
