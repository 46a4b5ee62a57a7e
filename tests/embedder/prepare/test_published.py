import pytest

from embedder.prepare.published import BY_NAME, with_published
from embedder.tasks import prompts_by_task


@pytest.mark.parametrize("model_id", ["intfloat/multilingual-e5-small", "Multilingual-E5-Small"])
def test_a_model_whose_files_name_no_prompts_gets_those_of_its_card(model_id: str) -> None:
    tasks = prompts_by_task(with_published(model_id, {}))
    assert (tasks["query"], tasks["document"]) == ("query: ", "passage: ")
    assert tasks["search_query"] == tasks["similarity"] == tasks["clustering"] == "query: "


@pytest.mark.parametrize("name", ["passage", "document", "search_document"])
def test_a_prompt_of_the_models_own_files_wins_under_any_name(name: str) -> None:
    tasks = prompts_by_task(with_published("intfloat/multilingual-e5-small", {name: "own: "}))
    assert tasks["document"] == tasks["passage"] == "own: "
    assert tasks["query"] == "query: "


@pytest.mark.parametrize(
    "model_id",
    ["intfloat/multilingual-e5-large-instruct", "somebody/multilingual-e5-small-ko", "model"],
)
def test_a_model_of_another_name_gets_no_prompts(model_id: str) -> None:
    assert with_published(model_id, {}) == {}
    assert with_published(model_id, {"query": "q: "}) == {"query": "q: "}


def test_every_published_model_knows_queries_and_documents() -> None:
    for name in BY_NAME:
        assert name == name.lower()
        assert {"query", "document"} <= prompts_by_task(with_published(name, {})).keys()
