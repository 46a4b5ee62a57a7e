"""What callers and documents need to know of the served model."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Read from the model's profile, before its weights are loaded."""

    # Its names and the task that each stands for; the first is the plain name.
    models: Mapping[str, str | None]
    tasks: tuple[str, ...]  # all names of all tasks
    main_tasks: tuple[str, ...]  # one name per task
    titles: bool  # whether documents may have titles
    blank: str  # pattern of titles that count as none
    dimensions: tuple[int, ...]  # descending; the first is the full size
    max_tokens: int
    max_texts: int  # per request
    architecture: str
    quantization: str
    n_bytes: int  # of its files
    created: int  # Unix time
    fingerprint: str

    @property
    def name(self) -> str:
        """The plain name."""
        return next(iter(self.models))
