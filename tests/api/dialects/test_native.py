"""Our own wire format: what becomes of texts and vectors."""

from typing import Any

from api.dialects.native import (
    BatchEmbedRequest,
    EmbedRequest,
    NativeRoutes,
    SimilarityRequest,
    TokenizeRequest,
)
from api.options import Body
from tests.api.dialects.counting import MAX_TOKENS, CountingService, scope

LONG = "one word more than fit"


async def answer(name: str, request: Body) -> dict[str, Any]:
    method = getattr(NativeRoutes, name).func
    found: dict[str, Any] = await method(CountingService(), request, scope())
    return found


async def test_one_text_has_one_vector() -> None:
    found = await answer("embed", EmbedRequest(text=LONG, dimensions=2))
    assert found["embedding"].tolist() == [1, 0]
    assert (found["truncated"], found["empty"]) == (True, False)
    assert found["model"] == "owner/model"


async def test_several_texts_have_their_counts_and_indices() -> None:
    found = await answer("batch_embed", BatchEmbedRequest(texts=["a", LONG, " "]))
    assert len(list(found["embeddings"])) == 3
    assert found["tokens"] == [1, MAX_TOKENS, 0]
    assert (found["truncated"], found["empty"]) == ([1], [2])


async def test_one_text_is_compared_with_each() -> None:
    found = await answer("similarity", SimilarityRequest(text="a", texts=["b", LONG]))
    assert [float(cosine) for cosine in found["similarities"]] == [0, 0]
    assert found["truncated"] == [1]
    assert (found["text_truncated"], found["text_empty"]) == (False, False)


async def test_without_a_text_all_are_compared_with_all() -> None:
    found = await answer("similarity", SimilarityRequest(texts=["a", "b"]))
    assert [row.tolist() for row in found["similarities"]] == [[1, 0], [0, 1]]
    assert not found["text_truncated"]


async def test_the_text_that_is_compared_may_have_a_task_of_its_own() -> None:
    service = CountingService()
    request = SimilarityRequest(text="a", texts=["b"], task="document", text_task="query")
    await NativeRoutes.similarity.func(service, request, scope())
    assert service.tasks == ["query", None]
    assert service.checked == ["a", "b"]


async def test_tokens_are_counted_beyond_the_limit() -> None:
    found = await answer("tokenize", TokenizeRequest(texts=[LONG]))
    [text] = found["texts"]
    assert len(text["ids"]) == MAX_TOKENS == found["max_tokens"]
    assert text["n_tokens"] == len(LONG.split())
    assert text["truncated"]
