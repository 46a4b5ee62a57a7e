"""Prompts that model cards ask for, for models whose files may not name them."""

from collections.abc import Mapping

from embedder.tasks import synonyms

Prompts = Mapping[str, str]  # by task
# Trained without prompts: queries and documents are embedded as they are.
NONE: Prompts = {"query": "", "document": ""}
# huggingface.co/intfloat/multilingual-e5-base, "FAQ": queries and passages differ for retrieval;
# symmetric tasks and features for classification and clustering take the prompt of a query.
E5: Prompts = {
    "query": "query: ",
    "document": "passage: ",
    "similarity": "query: ",
    "classification": "query: ",
    "clustering": "query: ",
}
# huggingface.co/BAAI/bge-small-en-v1.5, "Model List": for queries only.
BGE: Prompts = {
    "query": "Represent this sentence for searching relevant passages: ",
    "document": "",
}
# huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0: for queries only.
ARCTIC_2: Prompts = {"query": "query: ", "document": ""}

SIZES = ("small", "base", "large")
BY_NAME: Mapping[str, Prompts] = {  # the part of a model's id after the organisation
    **{f"gte-{size}": NONE for size in SIZES},
    **{f"bge-{size}-en{version}": BGE for size in SIZES for version in ("", "-v1.5")},
    "bge-m3": NONE,
    **{f"e5-{size}{version}": E5 for size in SIZES for version in ("", "-v2")},
    **{f"multilingual-e5-{size}": E5 for size in SIZES},
    "paraphrase-multilingual-minilm-l12-v2": NONE,
    **{f"snowflake-arctic-embed-{size}": BGE for size in ("xs", "s", "m", "m-v1.5", "l")},
    "snowflake-arctic-embed-l-v2.0": ARCTIC_2,
}


def with_published(model_id: str, own: Prompts) -> dict[str, str]:
    """The prompts that a model's files name, and the published ones of other tasks.

    Args:
        model_id: organisation/name, or the name of a directory.
        own: by the model's own names, which may be synonyms of a task's.
    """
    published = BY_NAME.get(model_id.rpartition("/")[2].lower(), {})
    missing = {
        task: prompt for task, prompt in published.items() if own.keys().isdisjoint(synonyms(task))
    }
    return {**missing, **own}
