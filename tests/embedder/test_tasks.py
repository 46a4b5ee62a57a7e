import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedder.errors import TaskUnknownError, TitleError
from embedder.prepare.families import gemma3
from embedder.prepare.sentences import SENTENCES
from embedder.tasks import main_names, prompts_by_task, prompts_for
from lab.random_embeddinggemma import PROMPTS
from tests.embedder.conftest import LoadModel

GEMMA = prompts_by_task(gemma3.prompts(PROMPTS))


@pytest.mark.parametrize("name", PROMPTS)
def test_ids_behind_a_prompt_are_those_of_sentence_transformers(
    name: str,
    gemma: LoadModel,
    gemma_original: SentenceTransformer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are compared with what encode(prompt_name=...) passes to the transformer."""
    model = gemma("fp32")
    prompts = prompts_for(model.profile.tasks, name, n_texts=len(SENTENCES))
    ours = model.tokenizer.encode(SENTENCES, prompt=prompts, max_tokens=model.max_tokens)
    seen: list[list[int]] = []
    forward = gemma_original.forward

    def watched(features: dict[str, np.ndarray], **arguments: object) -> object:
        for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True):
            seen.append(ids[mask.bool()].tolist())
        return forward(features, **arguments)

    monkeypatch.setattr(gemma_original, "forward", watched)
    for text in SENTENCES:
        gemma_original.encode(text, prompt_name=name)
    assert [tokens.ids.tolist() for tokens in ours] == seen


def test_a_title_replaces_none() -> None:
    one, other = prompts_for(GEMMA, "document", titles=["Mars", "Venus"], n_texts=2)
    assert (one, other) == ("title: Mars | text: ", "title: Venus | text: ")
    assert (
        prompts_for(GEMMA, "search_document", titles=["Mars"], n_texts=3)
        == ["title: Mars | text: "] * 3
    )


@pytest.mark.parametrize("blank", ["", " ", "\n", "\u200b", None])
def test_a_blank_title_counts_as_none(blank: str | None) -> None:
    prompts = prompts_for(GEMMA, "document", titles=[blank, "Mars", blank], n_texts=3)
    assert prompts == [GEMMA["document"], "title: Mars | text: ", GEMMA["document"]]
    assert prompts_for(GEMMA, "document", titles=[blank], n_texts=2) == [GEMMA["document"]] * 2


@pytest.mark.parametrize("task", [None, "query"])
def test_blank_titles_need_no_place(task: str | None) -> None:
    assert prompts_for(GEMMA, task, titles=["", None], n_texts=3) == prompts_for(
        GEMMA, task, n_texts=3
    )


@pytest.mark.parametrize(
    ("task", "titles"), [(None, ["a"]), ("query", ["a"]), ("document", ["a", "b"])]
)
def test_a_title_without_a_place_is_refused(task: str | None, titles: list[str]) -> None:
    with pytest.raises(TitleError):
        prompts_for(GEMMA, task, titles=titles, n_texts=3)


def test_without_a_task_there_is_no_prompt() -> None:
    assert prompts_for(GEMMA, None, n_texts=2) == ["", ""]


@pytest.mark.parametrize(
    ("alias", "task"),
    [("search_query", "query"), ("search_document", "document"), ("STS", "similarity")],
)
def test_other_names_mean_the_same_prompt(alias: str, task: str) -> None:
    assert GEMMA[alias] == GEMMA[task] == gemma3.PROMPTS[task]


def test_a_models_own_prompt_wins_over_the_published_one() -> None:
    assert gemma3.prompts(PROMPTS | {"code": "own: "})["code"] == "own: "


def test_another_model_is_not_given_embeddinggemmas_prompts() -> None:
    assert gemma3.prompts({"query": "query: "}) == {"query": "query: "}


def test_names_of_other_families_are_understood() -> None:
    e5 = prompts_by_task({"query": "query: ", "passage": "passage: "})
    assert (e5["search_query"], e5["document"]) == ("query: ", "passage: ")
    bge = prompts_by_task({"query": "Represent this sentence: "})  # its documents are read bare
    assert bge["document"] == ""


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        TaskUnknownError, match="query, document, classification, clustering, similarity"
    ) as found:
        prompts_for(GEMMA, "translation", n_texts=1)
    assert found.value.known == main_names(GEMMA)
    with pytest.raises(TaskUnknownError, match="none at all"):
        prompts_for({}, "query", n_texts=1)
