"""Texts that wait for the engine, and the next pack of them."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from embedder.errors import EmbeddingFailedError
from embedder.fair_queue import FairQueue
from embedder.postprocess import Vectors
from embedder.tokenized_text import TokenIds

BULK_EVERY = 16  # while bulk work waits, at least one pack in this many is bulk


@dataclass(slots=True, eq=False)
class Job:
    """One request. Its vectors arrive one by one; its answer is set when all have arrived."""

    user: str
    missing: int  # texts without a vector yet
    large: bool  # has more tokens than a pack
    bulk: bool  # all other work has priority
    answer: "asyncio.Future[Vectors]"
    vectors: Vectors | None = None
    shared: list[int] = field(default_factory=list)  # texts that were computed in other turns
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None

    def fail(self, error: Exception) -> None:
        """Raise `error` in the caller, unless it has left."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def deliver(
        self, index: int, row: np.ndarray | EmbeddingFailedError, *, shared: bool = False
    ) -> None:
        """Set one vector. It is copied, since `row` keeps its whole pack in memory."""
        if self.answer.done():
            return
        if shared:
            self.shared.append(index)
        if isinstance(row, EmbeddingFailedError):
            self.fail(EmbeddingFailedError(str(row), index=index))
            return
        if self.vectors is None:
            self.vectors = np.empty((self.missing, len(row)), np.float32)
        self.vectors[index] = row
        self.missing -= 1
        if self.missing == 0:
            self.answer.set_result(self.vectors)


@dataclass(slots=True, eq=False)
class Flight:
    """One forward pass of one text, for all requests that wait for it.

    Each of them has queued the text in its own turn. It runs in the first of these turns, so none
    waits longer than it would alone, and none depends on whether another is cancelled.
    """

    token_ids: TokenIds
    key: bytes | None  # None: no other request may wait for it
    texts: "list[Text]" = field(default_factory=list)  # that wait for it; of the event loop alone
    taken: bool = False  # by the engine's thread


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One text of a job."""

    job: Job
    index: int
    flight: Flight

    @property
    def token_ids(self) -> TokenIds:
        """(n_tokens,)."""
        return self.flight.token_ids


class PackQueue:
    """Texts that the event loop adds and the engine's thread takes, fair between users.

    Bulk jobs have a queue of their own. A pack is taken from it when nothing else waits, and
    otherwise once in BULK_EVERY packs, so that bulk jobs progress under any load.

    Args:
        batch_tokens: tokens in one pack, at most.
        batch_size: texts in one pack, at most.
    """

    def __init__(self, *, batch_tokens: int, batch_size: int) -> None:
        self._batch_tokens, self._batch_size = batch_tokens, batch_size
        self._texts: FairQueue[Text] = FairQueue()
        self._bulk: FairQueue[Text] = FairQueue()
        self._passed = 0  # packs since bulk began to wait or was taken
        self._lock = threading.Lock()

    def push(self, texts: Sequence[Text]) -> None:
        """Add all texts of a job at once, so that no pack takes some of them too early."""
        with self._lock:
            for text in texts:
                self._queue_of(text.job).push(text.job.user, text, len(text.token_ids))

    def drop(self, job: Job) -> list[Text]:
        """Remove and return the texts of a job that are in the queue."""
        with self._lock:
            return self._queue_of(job).drop(job.user, lambda text: text.job is job)

    def take(self) -> list[Text]:
        """The texts of the next pack; empty if none waits.

        A text of more than `batch_tokens` gets a pack of its own.

        A pack of small requests is not filled up from a large one: a query of 16 tokens that shares
        its pack with 240 tokens of another user's batch takes seven times as long.
        """
        with self._lock:
            return self._pack_of(self._next_queue())

    def _queue_of(self, job: Job) -> FairQueue[Text]:
        return self._bulk if job.bulk else self._texts

    def _next_queue(self) -> FairQueue[Text]:
        """The queue to take the next pack from."""
        if _next(self._bulk) is None:
            self._passed = 0
            return self._texts
        self._passed += 1
        if _next(self._texts) is None or self._passed >= BULK_EVERY:
            self._passed = 0
            return self._bulk
        return self._texts

    def _pack_of(self, queue: FairQueue[Text]) -> list[Text]:
        pack: list[Text] = []
        tokens = 0
        while len(pack) < self._batch_size and (text := _next(queue)) is not None:
            tokens += len(text.token_ids)
            fills_up = bool(pack) and text.job.large and not pack[-1].job.large
            if pack and (tokens > self._batch_tokens or fills_up):
                break
            text.flight.taken = True
            pack.append(queue.pop())
        return pack


def _next(queue: FairQueue[Text]) -> Text | None:
    """The next text that no other turn has taken."""
    while (text := queue.peek()) is not None and text.flight.taken:
        queue.pop(free=True)
    return text
