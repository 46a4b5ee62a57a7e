"""What callers and documents need to know of the served model."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Read from the model's profile, before its weights are loaded."""

    models: Mapping[
        str, str | None
    ]  # its names and the task that each stands for, the plain one first
    tasks: tuple[str, ...]  # every name of every task
    main_tasks: tuple[str, ...]  # every task by one name
    titles: bool  # whether documents may have one
    blank: str  # pattern of a title that is none
    dimensions: tuple[int, ...]  # descending, the first is the whole
    max_tokens: int
    created: int  # Unix time
    fingerprint: str
