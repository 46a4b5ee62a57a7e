"""What a text is embedded for: the names of tasks, and the prompt that each means to a model."""

from collections.abc import Mapping, Sequence

from embedder.blank import is_blank
from embedder.errors import TaskUnknownError, TitleError

# huggingface.co/google/embeddinggemma-300m, "Prompt Instructions"; its config_sentence_transformers.json
# has most of them too, under names of its own.
EMBEDDING_GEMMA: Mapping[str, str] = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "question_answering": "task: question answering | query: ",
    "fact_checking": "task: fact checking | query: ",
    "classification": "task: classification | query: ",
    "clustering": "task: clustering | query: ",
    "similarity": "task: sentence similarity | query: ",
    "code": "task: code retrieval | query: ",
}
NO_TITLE = "title: none"  # where a document prompt takes a title
LONGEST_TITLE = 1000  # characters

# Names of one task: ours, Cohere's input_type where it has another, and what models call their prompt.
SYNONYMS = (
    ("query", "search_query", "Retrieval-query"),
    ("document", "search_document", "passage", "Retrieval-document"),
    ("classification", "Classification"),
    ("clustering", "Clustering"),
    ("similarity", "STS"),
)
QUERY, DOCUMENT = SYNONYMS[:2]


def with_published(prompts: Mapping[str, str]) -> dict[str, str]:
    """A model's own prompts by name; to those of an EmbeddingGemma, the others that its authors publish."""
    published = EMBEDDING_GEMMA if prompts.get("query") == EMBEDDING_GEMMA["query"] else {}
    return {**published, **prompts}


def prompts_by_task(prompts: Mapping[str, str]) -> dict[str, str]:
    """Every task that a model with `prompts` has, by every name a caller may use."""
    found: dict[str, str] = {}
    for names in SYNONYMS:
        if own := next((name for name in names if name in prompts), None):
            found |= dict.fromkeys(names, prompts[own])
    if (
        "query" in found or "document" in found
    ):  # a model with a prompt for one side reads the other bare
        found = dict.fromkeys((*QUERY, *DOCUMENT), "") | found
    return found | dict(prompts)


def main_names(tasks: Mapping[str, str]) -> list[str]:
    """The tasks, each by one name."""
    second = {name for names in SYNONYMS for name in names[1:]}
    return [name for name in tasks if name not in second]


def prompts_for(
    tasks: Mapping[str, str],
    task: str | None,
    *,
    titles: Sequence[str | None] | None = None,
    n_texts: int,
) -> list[str]:
    """The prompt of each of `n_texts` texts, bare without a task.

    `titles` are one for all, or one a text; None and a blank one are no title.
    Raises TaskUnknownError, and TitleError where there is no place for a title or another number.
    """
    if task is not None and task not in tasks:
        raise TaskUnknownError(task, main_names(tasks))
    prompt = tasks[task] if task is not None else ""
    fields = [NO_TITLE if is_blank(title or "") else f"title: {title}" for title in titles or ()]
    if not set(fields) - {NO_TITLE}:
        return [prompt] * n_texts
    if NO_TITLE not in prompt:
        raise TitleError(
            "only documents have a title, of models whose document prompt has a place for one: "
            'leave it out, or set "task": "document" if GET /v1/models lists that task'
        )
    if len(fields) not in (1, n_texts):
        raise TitleError(
            f"{len(fields)} titles for {n_texts} texts: send one for all, or one a text"
        )
    prompts = [prompt.replace(NO_TITLE, field, 1) for field in fields]
    return prompts * n_texts if len(prompts) == 1 else prompts
