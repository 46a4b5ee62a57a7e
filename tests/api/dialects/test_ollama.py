"""Ollama's wire format: names with a tag, options that change nothing."""

from typing import Any

import numpy as np
import pytest

from api.dialects.ollama import (
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaRoutes,
    OllamaShowRequest,
    model_list,
)
from api.errors import NoSuchModelError
from tests.api.dialects.counting import MAX_TOKENS, MODEL_INFO, CountingService, scope


async def asked(service: CountingService, **fields: Any) -> dict[str, Any]:
    request = OllamaEmbedRequest.model_validate({"model": "owner/model", "input": "a"} | fields)
    answer: dict[str, Any] = await OllamaRoutes.ollama_embed.func(service, request, scope())
    return answer


async def test_each_text_has_a_vector() -> None:
    answer = await asked(CountingService(), input=["a", "b c"], dimensions=2)
    assert [row.tolist() for row in answer["embeddings"]] == [[1, 0], [0, 1]]
    assert answer["prompt_eval_count"] == 3


async def test_the_earlier_route_has_one_vector() -> None:
    request = OllamaEmbeddingsRequest(model="owner/model", prompt="a")
    answer = await OllamaRoutes.ollama_embeddings.func(CountingService(), request, scope())
    assert answer["embedding"].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("keep_alive", ["5m", -1, 0.5, None])
async def test_options_and_keep_alive_change_nothing(keep_alive: str | float | None) -> None:
    options = {"num_ctx": 16, "stop": ["a"], "temperature": None}
    ignored = {"options": options, "keep_alive": keep_alive, "think": False}
    plain = await asked(CountingService())
    told = await asked(CountingService(), **ignored)
    np.testing.assert_array_equal(list(told["embeddings"]), list(plain["embeddings"]))


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ["a"]},  # Open WebUI, Continue, LlamaIndex
        {"input": ["a"], "truncate": None, "options": None, "keep_alive": None},  # Open WebUI
        {
            "input": ["a"],
            "truncate": True,
            "keep_alive": "5m",
            "options": {"num_ctx": 2048},
        },  # Dify
        {"input": ["a"], "dimensions": None, "options": {}},  # LangChain
    ],
)
async def test_bodies_of_common_programs_are_taken(fields: dict[str, Any]) -> None:
    assert len(list((await asked(CountingService(), **fields))["embeddings"])) == 1


@pytest.mark.parametrize(
    ("model", "task"),
    [("owner/model", None), ("owner/model:latest", None), ("model-query:latest", "query")],
)
async def test_a_name_may_have_ollamas_tag(model: str, task: str | None) -> None:
    service = CountingService()
    answer = await asked(service, model=model)
    assert (service.tasks, answer["model"]) == ([task], model)


@pytest.mark.parametrize("model", ["llama3", "owner/model:7b"])
async def test_another_model_is_refused(model: str) -> None:
    with pytest.raises(NoSuchModelError, match="Use owner/model"):
        await asked(CountingService(), model=model)


def test_every_name_is_listed_with_ollamas_tag() -> None:
    listed = model_list(MODEL_INFO)["models"]
    assert [model["model"] for model in listed] == ["owner/model:latest", "model-query:latest"]
    assert listed[0]["modified_at"] == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize("field", ["model", "name"])
async def test_a_model_is_described(field: str) -> None:
    request = OllamaShowRequest.model_validate({field: "owner/model:latest"})
    shown = await OllamaRoutes.ollama_show.func(CountingService(), request, scope())
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["bert.context_length"] == MAX_TOKENS
    assert shown["model_info"]["bert.embedding_length"] == 4
