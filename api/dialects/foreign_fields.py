"""Fields of other embedding APIs, which clients send to any server of `/v1/embeddings`."""

import difflib
from collections.abc import Collection, Iterable

# They ask for another vector, or another form of it, so they must not be ignored.
REFUSED = frozenset(
    {
        "add_special_tokens", "auto_truncate", "embedding_type", "embedding_types", "input_type",
        "instruction", "late_chunking", "max_length", "normalize", "normalize_embeddings",
        "normalized", "output_dimension", "output_dtype", "output_type", "pooling", "prefix",
        "prompt", "prompt_name", "return_multivector", "task_type", "text_type", "truncate_dim",
        "truncate_prompt_tokens", "truncation", "type",
    }
)  # fmt: skip
# All other fields are ignored; clients are known to send these.
KNOWN = frozenset(
    {
        "caching", "custom_llm_provider", "drop_params", "extra_body", "extra_headers", "metadata",
        "num_retries", "request_timeout", "safety_identifier", "service_tier", "store", "stream",
        "tags", "timeout", "user",
    }
)  # fmt: skip


def complaint(name: str, *, ours: Collection[str]) -> str | None:
    """Why a field that is not one of `ours` cannot be ignored; None if it can."""
    if name in REFUSED:
        return (
            "it would change the vectors, and is not supported. Leave it out, "
            f"or use {', '.join(sorted(ours))}"
        )
    if close := difflib.get_close_matches(name[:64], ours, n=1, cutoff=0.8):
        return f"there is no such field; did you mean {close[0]}?"
    return None


def first_complaint(names: Iterable[str], *, ours: Collection[str]) -> tuple[str, str] | None:
    """The first of `names` that cannot be ignored, and why."""
    found = ((name, complaint(name, ours=ours)) for name in names)
    return next(((name, why) for name, why in found if why), None)
