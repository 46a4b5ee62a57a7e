"""Tasks and titles: the vectors are those of the original with its prompts."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedder.prepare.families import gemma3
from embedder.prepare.original import load_original
from embedder.prepare.source import locate
from lab.random_embeddinggemma import PROMPTS
from lab.server import Server
from tests.live.calls import MODEL, TEXTS, answer, refusal, vectors


@pytest.fixture(scope="module")
def original(gemma_directory: Path) -> SentenceTransformer:
    return load_original(locate(str(gemma_directory)))


@pytest.mark.parametrize("name", PROMPTS)
def test_a_task_gives_the_vectors_of_encode_with_that_prompt(
    gemma_server: Server, original: SentenceTransformer, name: str
) -> None:
    np.testing.assert_allclose(
        vectors(gemma_server, task=name), original.encode(TEXTS, prompt_name=name), atol=2e-6
    )


@pytest.mark.parametrize("task", gemma3.PROMPTS)
def test_every_published_task_is_there(
    gemma_server: Server, original: SentenceTransformer, task: str
) -> None:
    expected = original.encode(TEXTS, prompt=gemma3.PROMPTS[task])
    np.testing.assert_allclose(vectors(gemma_server, task=task), expected, atol=2e-6)


def test_without_a_task_the_text_is_read_bare(
    gemma_server: Server, original: SentenceTransformer
) -> None:
    np.testing.assert_allclose(vectors(gemma_server), original.encode(TEXTS), atol=2e-6)


def test_cohere_names_mean_the_same(gemma_server: Server) -> None:
    for theirs, ours in {"search_query": "query", "search_document": "document"}.items():
        np.testing.assert_array_equal(
            vectors(gemma_server, task=theirs), vectors(gemma_server, task=ours)
        )


@pytest.mark.parametrize("task", ["query", "document"])
def test_a_model_name_can_stand_for_the_task(gemma_server: Server, task: str) -> None:
    data = answer(gemma_server, "/v1/embeddings", model=f"{MODEL}-{task}", input=TEXTS)["data"]
    named = np.array([item["embedding"] for item in data], np.float32)
    np.testing.assert_array_equal(named, vectors(gemma_server, task=task))


def test_documents_have_titles_one_for_all_or_one_each(
    gemma_server: Server, original: SentenceTransformer
) -> None:
    for titles in (["Mars", "화성", "code"], "Mars"):
        each = titles if isinstance(titles, list) else [titles] * 3
        expected = [
            original.encode(f"title: {title} | text: {text}")
            for title, text in zip(each, TEXTS, strict=True)
        ]
        np.testing.assert_allclose(
            vectors(gemma_server, task="document", title=titles), expected, atol=2e-6
        )


@pytest.mark.parametrize("blank", ["", " ", "\u200b", None])
def test_a_blank_title_is_ignored(gemma_server: Server, blank: str | None) -> None:
    bare, titled = (vectors(gemma_server, task="document", title=title) for title in (None, "Mars"))
    np.testing.assert_array_equal(vectors(gemma_server, task="document", title=blank), bare)
    np.testing.assert_array_equal(vectors(gemma_server, title=blank), vectors(gemma_server))
    mixed = vectors(gemma_server, task="document", title=[blank, "Mars", blank])
    np.testing.assert_array_equal(mixed, [bare[0], titled[1], bare[2]])


def test_usage_counts_the_prompt(gemma_server: Server) -> None:
    bare, prompted = (
        answer(gemma_server, "/batch-embed", texts=TEXTS, **options)
        for options in ({}, {"task": "query"})
    )
    assert prompted["usage"]["prompt_tokens"] == sum(prompted["tokens"])
    assert all(more > less for more, less in zip(prompted["tokens"], bare["tokens"], strict=True))


def test_a_model_without_prompts_says_so(server: Server) -> None:
    assert "none at all" in refusal(server, "/embed", text="a", task="query")["message"]


def test_tokens_are_counted_as_they_will_be_charged(
    gemma_server: Server, original: SentenceTransformer
) -> None:
    counted = answer(gemma_server, "/tokenize", texts=TEXTS, task="query")["texts"]
    prompted = [PROMPTS["query"] + text for text in TEXTS]
    assert [text["ids"] for text in counted] == original.tokenizer(prompted)["input_ids"]
    charged = answer(gemma_server, "/batch-embed", texts=TEXTS, task="query")["tokens"]
    assert [text["n_tokens"] for text in counted] == charged
