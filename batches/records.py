"""What is kept of a file and of a batch, and its form on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import orjson
from pydantic import TypeAdapter

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling",
    "cancelled",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)
FINISHED = frozenset({"failed", "completed", "expired", "cancelled"})
INPUT, OUTPUT = "batch", "batch_output"  # purposes of files


@dataclass(slots=True)
class StoredFile:
    """A file of a user. Times in seconds since 1970."""

    id: str
    user_id: str
    filename: str
    n_bytes: int
    purpose: str
    created_at: int
    expires_at: int


@dataclass(slots=True)
class Problem:
    """Why a batch failed; `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(slots=True)
class Progress:
    """How far a batch is. All of it is written at once, after the lines themselves.

    Attributes:
        line: lines of the input that are done, or were blank.
        offset: bytes of the input that they take.
        output_bytes: length of the answers.
        error_bytes: length of the errors.
        charged_to: the last line whose tokens may have been charged before it was done.
    """

    line: int = 0
    offset: int = 0
    completed: int = 0
    failed: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    charged_to: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(slots=True)
class Batch:
    """A batch of a user. Times in seconds since 1970.

    Attributes:
        ends_as: what it becomes when all lines are written; set when that is known.
        kept_seconds: how long its answers are kept, if not for the retention.
        total: its requests, once they have been counted.
        reserved: bytes that its answers may come to take.
        times: when it reached each status.
    """

    id: str
    user_id: str
    caller: str
    input_file_id: str
    output_file_id: str
    error_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    created_at: int
    expires_at: int
    status: Status = "validating"
    ends_as: Status | None = None
    model: str | None = None
    kept_seconds: int | None = None
    total: int = 0
    reserved: int = 0
    times: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in FINISHED

    @property
    def waiting(self) -> int:
        """Requests that are not done."""
        done = self.progress.completed + self.progress.failed
        return 0 if self.finished else max(0, self.total - done)

    def reach(self, status: Status, now: float) -> None:
        """Change the status; it is not on the disk yet."""
        self.status = status
        self.times[status] = int(now)


_FILES, _BATCHES = TypeAdapter(StoredFile), TypeAdapter(Batch)


def record_bytes(record: StoredFile | Batch) -> bytes:
    """The record of a file or a batch as it is kept."""
    return orjson.dumps(record)


def read_file(content: bytes) -> StoredFile:
    """A file from its `record_bytes`. Raises ValueError for anything else."""
    return _FILES.validate_json(content, strict=True)


def read_batch(content: bytes) -> Batch:
    """A batch from its `record_bytes`. Raises ValueError for anything else."""
    return _BATCHES.validate_json(content, strict=True)
