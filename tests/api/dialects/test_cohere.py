"""Cohere's wire format: texts or inputs, vectors by type."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.dialects.cohere import CohereEmbedRequest, CohereRoutes
from api.errors import InvalidBodyError, NoSuchModelError
from tests.api.dialects.counting import CountingService, scope

TYPES = ["float", "int8", "uint8", "binary", "ubinary", "base64"]


def request(**fields: Any) -> CohereEmbedRequest:
    body: CohereEmbedRequest = CohereEmbedRequest.model_validate({"model": "owner/model"} | fields)
    return body


async def asked(route: str = "cohere_embed", **fields: Any) -> dict[str, Any]:
    method = getattr(CohereRoutes, route).func
    answer: dict[str, Any] = await method(CountingService(), request(**fields), scope())
    return answer


async def test_a_vector_comes_in_each_type_that_was_asked_for() -> None:
    answer = await asked(texts=["a", "b c"], embedding_types=TYPES)
    found = {name: list(rows) for name, rows in answer["embeddings"].items()}
    assert list(found) == TYPES
    assert found["float"][0].tolist() == [1, 0, 0, 0]
    assert found["int8"][0].tolist() == [127, 0, 0, 0]
    assert found["uint8"][0].tolist() == [255, 128, 128, 128]
    assert found["ubinary"][0].tolist() == [128]
    assert found["binary"][0].tolist() == [0]
    assert all(len(rows) == 2 for rows in found.values())
    assert answer["meta"]["billed_units"] == {"input_tokens": 3}


async def test_the_first_version_answers_a_bare_list_unless_it_is_asked_for_types() -> None:
    bare = await asked("cohere_embed_v1", texts=["a"])
    typed = await asked("cohere_embed_v1", texts=["a"], embedding_types=["int8"])
    assert (bare["response_type"], len(list(bare["embeddings"]))) == ("embeddings_floats", 1)
    assert (typed["response_type"], list(typed["embeddings"])) == ("embeddings_by_type", ["int8"])
    assert list((await asked(texts=["a"]))["embeddings"]) == ["float"]


def test_inputs_are_texts_in_parts_and_are_not_kept() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = request(inputs=[{"content": parts}, {"content": parts[:1]}])
    assert body.take_texts() == ["a\nb", "a"]
    assert (body.texts, body.inputs) == (None, None)


def test_fields_that_change_nothing_are_ignored() -> None:
    assert request(texts=["a"], priority=3, client_name="c") == request(texts=["a"])


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({}, None),
        ({"input_type": "search_query"}, "search_query"),
        ({"model": "model-query"}, "query"),
    ],
)
async def test_the_input_type_is_the_task(fields: dict[str, str], task: str | None) -> None:
    service = CountingService()
    await CohereRoutes.cohere_embed.func(service, request(texts=["a"], **fields), scope())
    assert service.tasks == [task]


async def test_a_model_without_prompts_ignores_the_input_type() -> None:
    service = CountingService(tasks=())
    body = request(texts=["a"], input_type="search_query")
    await CohereRoutes.cohere_embed.func(service, body, scope())
    assert service.tasks == [None]


async def test_another_model_is_refused() -> None:
    with pytest.raises(NoSuchModelError, match="Use owner/model"):
        await asked(texts=["a"], model="embed-v4.0")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"images": ["data:image/png;base64,"]}, "send no images"),
        ({"texts": ["a"], "max_tokens": 5}, "limit is that of the service"),
        ({"texts": ["a"], "normalize": False}, "would change the vectors"),
        ({"texts": ["a"], "title": "t"}, "would change the vectors"),
        ({"texts": ["a"], "overflow": "average", "truncate": "END"}, "leave truncate out"),
        ({"texts": ["a"], "overflow": "truncate", "truncate": "NONE"}, "leave truncate out"),
        ({"texts": ["a"], "dimensions": 2}, "would change the vectors"),
        ({"textss": ["a"]}, "did you mean texts"),
    ],
)
def test_what_cannot_be_ignored_is_refused_with_the_reason(
    fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidBodyError, match=f"(?i){told}"):
        request(**fields)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "texts or inputs"),
        ({"texts": ["a"], "inputs": [{"content": [{"type": "text", "text": "a"}]}]}, "one of"),
        ({"inputs": [{"content": [IMAGE]}]}, "send no images"),
        ({"texts": ["a"], "input_type": "image"}, "send no images"),
        ({"texts": ["a"], "embedding_types": ["int4"]}, "float"),
        ({"texts": ["a"], "embedding_types": []}, "at least 1"),
        ({"inputs": [{"content": [{"type": "text", "text": "a"}]}] * 97}, "at most 96"),
        ({"inputs": [{"content": [{"type": "text", "text": "a" * 2**19}] * 2}]}, "characters"),
    ],
)
def test_a_body_that_does_not_fit_says_why(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=f"(?i){told}"):
        request(**fields)
