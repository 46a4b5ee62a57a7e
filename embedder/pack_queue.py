"""Texts that wait for the engine, and the next pack of them."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from embedder.errors import EmbeddingFailedError
from embedder.fair_queue import FairQueue
from embedder.postprocess import Vectors
from embedder.tokens import TokenIds


@dataclass(slots=True, eq=False)
class Job:
    """One caller's request: its rows come back one by one, its answer only when all are there."""

    rows: list[np.ndarray | None]
    missing: int
    large: bool  # fills packs by itself
    answer: "asyncio.Future[Vectors]"
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def deliver(self, index: int, row: np.ndarray | EmbeddingFailedError) -> None:
        if self.answer.done():
            return
        if isinstance(row, EmbeddingFailedError):
            self.fail(EmbeddingFailedError(str(row), index=index))
            return
        self.rows[index] = row
        self.missing -= 1
        if self.missing == 0:
            self.answer.set_result(np.stack([row for row in self.rows if row is not None]))


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a job."""

    job: Job
    index: int
    token_ids: TokenIds


class PackQueue:
    """Filled by the event loop, emptied by the engine's thread; fair between users.

    Args:
        batch_tokens, batch_size: tokens and texts in one pack.
    """

    def __init__(self, *, batch_tokens: int, batch_size: int) -> None:
        self._batch_tokens, self._batch_size = batch_tokens, batch_size
        self._texts: FairQueue[Text] = FairQueue()
        self._lock = threading.Lock()
        self.tokens = 0  # that wait

    def push(self, user: str, texts: list[Text]) -> None:
        """All texts of a job at once: none of them goes before the others are there."""
        with self._lock:
            for text in texts:
                self._texts.push(user, text, len(text.token_ids))
                self.tokens += len(text.token_ids)

    def take(self) -> list[Text]:
        """The next texts up to the budget, none if none waits; one longer than the budget goes alone.

        Small requests are not topped up from one that fills packs by itself: a query of 16 tokens that
        shares its pack with 240 tokens of another's bulk takes seven times as long.
        """
        pack: list[Text] = []
        tokens = 0
        with self._lock:
            while len(pack) < self._batch_size and (text := self._next()) is not None:
                tokens += len(text.token_ids)
                tops_up = bool(pack) and text.job.large and not pack[-1].job.large
                if pack and (tokens > self._batch_tokens or tops_up):
                    break
                self._discard()
                pack.append(text)
        return pack

    def _next(self) -> Text | None:
        """The first whose caller still waits."""
        while (text := self._texts.peek()) is not None and text.job.answer.done():
            self._discard()
        return text

    def _discard(self) -> None:
        self.tokens -= len(self._texts.pop().token_ids)
