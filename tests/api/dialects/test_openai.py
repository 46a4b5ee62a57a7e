"""OpenAI's wire format: models by name, one object per text."""

from typing import Any

import pytest

from api.dialects.openai import EmbeddingsRequest, OpenAIRoutes, model_card, model_list
from api.errors import NoSuchModelError
from tests.api.dialects.counting import MAX_TOKENS, MODEL_INFO, CountingService, scope


async def asked(service: CountingService, **fields: Any) -> list[dict[str, object]]:
    request = EmbeddingsRequest.model_validate({"model": "owner/model", "input": "a"} | fields)
    answer = await OpenAIRoutes.embeddings.func(service, request, scope())
    assert answer["object"] == "list"
    return list(answer["data"])


async def test_each_text_has_an_object_in_its_place() -> None:
    data = await asked(CountingService(), input=["a", "a b c d", " "])
    assert [item["index"] for item in data] == [0, 1, 2]
    assert [item["tokens"] for item in data] == [1, MAX_TOKENS, 0]
    assert [item["truncated"] for item in data] == [False, True, False]
    assert [item["empty"] for item in data] == [False, False, True]


@pytest.mark.parametrize(
    ("fields", "task"),
    [({}, None), ({"model": "model-query"}, "query"), ({"task": "search_query"}, "search_query")],
)
async def test_the_name_of_the_model_stands_for_a_task(
    fields: dict[str, str], task: str | None
) -> None:
    service = CountingService()
    await asked(service, **fields)
    assert service.tasks == [task]


async def test_a_task_in_the_request_goes_before_that_of_the_name() -> None:
    service = CountingService()
    await asked(service, model="model-query", task="search_query")
    assert service.tasks == ["search_query"]


async def test_another_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(NoSuchModelError, match="Use owner/model, model-query"):
        await asked(CountingService(), model="text-embedding-3-small")


def test_every_name_has_a_card() -> None:
    names = [card["id"] for card in model_list(MODEL_INFO)["data"]]
    assert names == ["owner/model", "model-query"]
    card = model_card("model-query", MODEL_INFO)
    assert (card["task"], card["owned_by"]) == ("query", "owner")


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ["a"], "encoding_format": "float"},  # LangChain in JavaScript, so n8n and Flowise
        {"input": ["a"], "encoding_format": "float", "user": "u"},  # Dify
        {"input": ["a"]},  # Continue, Open WebUI
        {"input": ["a"], "dimensions": None, "encoding_format": None, "user": None},  # LiteLLM
        {"input": ["a"], "drop_params": True},  # RAGFlow
        {"input": ["a"], "timeout": 30, "stream": False, "extra_headers": {}},
    ],
)
async def test_bodies_of_common_programs_are_taken(fields: dict[str, Any]) -> None:
    [item] = await asked(CountingService(), **fields)
    assert item["tokens"] == 1
