"""What a text is embedded for: the names of tasks, and a model's prompt for each."""

from collections.abc import Mapping, Sequence

from embedder.blank import is_blank
from embedder.errors import TaskUnknownError, TitleError

NO_TITLE = "title: none"  # the part of a document prompt that a title replaces
LONGEST_TITLE = 1000  # characters

# Names of one task: ours, then Cohere's input_type, then what models call their prompt.
SYNONYMS = (
    ("query", "search_query", "Retrieval-query", "SearchQuery"),
    ("document", "search_document", "passage", "Retrieval-document", "Document"),
    ("classification", "Classification"),
    ("clustering", "Clustering"),
    ("similarity", "STS", "SentenceSimilarity"),
    ("question_answering", "QuestionAnswering"),
    ("fact_checking", "FactChecking"),
    ("code", "CodeRetrieval"),
)
QUERY, DOCUMENT = SYNONYMS[:2]


def prompts_by_task(prompts: Mapping[str, str]) -> dict[str, str]:
    """The prompt of every task of a model, by every name that a caller may use.

    Args:
        prompts: the model's prompts, by its own names.
    """
    found: dict[str, str] = {}
    for names in SYNONYMS:
        if own := next((name for name in names if name in prompts), None):
            found |= dict.fromkeys(names, prompts[own])
    if "query" in found or "document" in found:
        # A model with a prompt for one of the two reads the other without a prompt.
        found = dict.fromkeys((*QUERY, *DOCUMENT), "") | found
    return found | dict(prompts)


def synonyms(task: str) -> tuple[str, ...]:
    """Every name of a task, itself included."""
    return next((names for names in SYNONYMS if task in names), (task,))


def main_names(tasks: Mapping[str, str]) -> list[str]:
    """One name for each task."""
    second = {name for names in SYNONYMS for name in names[1:]}
    return [name for name in tasks if name not in second]


def prompts_for(
    tasks: Mapping[str, str],
    task: str | None,
    *,
    titles: Sequence[str | None] | None = None,
    n_texts: int,
) -> list[str]:
    """The prompt of each of `n_texts` texts; empty without a task.

    Args:
        tasks: prompts by task.
        task: one of `tasks`, or None.
        titles: one for all texts, or one per text. None and a blank title count as no title.
        n_texts: how many prompts to return.

    Raises:
        TaskUnknownError: the model does not have the task.
        TitleError: its prompt has no place for a title, or the number of titles is wrong.
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
            f"{len(fields)} titles for {n_texts} texts: send one for all, or one per text"
        )
    prompts = [prompt.replace(NO_TITLE, field, 1) for field in fields]
    return prompts * n_texts if len(prompts) == 1 else prompts
