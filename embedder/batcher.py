"""Callers' texts, gathered into packs for the one engine."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from embedder.errors import EmbeddingFailedError, EngineEndedError, QueueFullError
from embedder.fair_queue import FairQueue
from embedder.model import Engine
from embedder.postprocess import Vectors
from embedder.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class PackReport:
    """One forward pass, for whoever keeps metrics."""

    texts: int
    tokens: int
    seconds: float  # in the engine
    waited: float  # seconds its longest-waiting text spent in the queue


@dataclass(frozen=True, slots=True)
class JobReport:
    """One request's way through, on time.monotonic(): when it came, first ran, and was done."""

    arrived: float
    started: float
    ended: float


@dataclass(slots=True, eq=False)
class _Job:
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
class _Text:
    job: _Job
    index: int
    token_ids: TokenIds


class Batcher:
    """Greedy, token-budgeted batching: an idle engine starts at once, a busy one lets texts gather.

    Fair between users, bounded by queued tokens. A cancelled caller's queued texts are dropped, and a
    text that the engine fails on fails its own request only.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        batch_tokens: int,
        batch_size: int,
        queue_tokens: int,
        report: Callable[[PackReport], None] = lambda _: None,
        report_job: Callable[[JobReport], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._batch_tokens, self._batch_size, self._queue_tokens = batch_tokens, batch_size, queue_tokens
        self._report, self._report_job = report, report_job
        self._queue: FairQueue[_Text] = FairQueue()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._tokens_per_second = 0.0  # of the engine, smoothed over about ten packs
        self._loop_task: asyncio.Task[None] | None = None
        self._jobs: set[_Job] = set()
        self.ended_by: Exception | None = None  # why no more work is taken
        self.queued_tokens = 0
        self.running_since: float | None = None  # time.monotonic() of the forward pass under way

    def start(self) -> None:
        """Begin to take work; needs a running event loop."""
        self._loop_task = asyncio.create_task(self._run(), name="batcher")
        self._loop_task.add_done_callback(self._ended)

    def abandon(self, error: Exception) -> None:
        """Take no more work, and raise `error` to everybody who waits: a forward pass cannot be ended."""
        self.ended_by = error
        for job in self._jobs:
            job.fail(error)

    async def close(self) -> None:
        """Stop taking work and wait for the forward pass under way."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def embed(self, token_ids: Sequence[TokenIds], *, user: str) -> Vectors:
        """Vectors of one request's texts, in their order.

        Args:
            token_ids: the texts, each (n_tokens,).
            user: whose turn in the queue it takes.

        Returns:
            (n_texts, dimensions) float32, L2-normalised.

        Raises:
            QueueFullError: too many tokens wait already; carries `retry_after` in seconds.
            EmbeddingFailedError: the engine failed on a text; carries its index.
            EngineError: it has ended, or whatever `abandon` was given.
        """
        if self.ended_by is not None:
            raise self.ended_by
        if self.queued_tokens >= self._queue_tokens:
            raise QueueFullError(retry_after=self._drain_seconds())
        n_texts, n_tokens = len(token_ids), sum(map(len, token_ids))
        answer = asyncio.get_running_loop().create_future()
        job = _Job([None] * n_texts, n_texts, n_tokens > self._batch_tokens, answer)
        for index, ids in enumerate(token_ids):
            self._queue.push(user, _Text(job, index, ids), len(ids))
        self.queued_tokens += n_tokens
        self._work.set()
        self._jobs.add(job)
        try:
            return await job.answer  # a cancelled caller cancels the future, which is how _next_text knows
        finally:
            self._jobs.discard(job)
            ended = time.monotonic()
            self._report_job(JobReport(job.arrived, job.started or ended, ended))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.abandon(EngineEndedError(error))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            pack = self._take_pack()
            if not pack:
                self._work.clear()
                continue
            self.running_since = started = time.monotonic()
            for text in pack:
                text.job.started = text.job.started or started
            rows = await loop.run_in_executor(self._thread, self._forward, [text.token_ids for text in pack])
            self.running_since = None
            self._account(pack, started, time.monotonic() - started)
            for text, row in zip(pack, rows, strict=True):
                text.job.deliver(text.index, row)

    def _take_pack(self) -> list[_Text]:
        """The next texts up to the budget; a text longer than the budget goes alone.

        Small requests are not topped up from one that fills packs by itself: a query of 16 tokens that shares
        its pack with 240 tokens of another's bulk takes seven times as long.
        """
        pack: list[_Text] = []
        tokens = 0
        while len(pack) < self._batch_size and (text := self._next_text()) is not None:
            tokens += len(text.token_ids)
            if pack and (tokens > self._batch_tokens or (text.job.large and not pack[-1].job.large)):
                break
            self._discard_next()
            pack.append(text)
        return pack

    def _next_text(self) -> _Text | None:
        while (text := self._queue.peek()) is not None and text.job.answer.done():
            self._discard_next()
        return text

    def _discard_next(self) -> None:
        self.queued_tokens -= len(self._queue.pop().token_ids)

    def _forward(self, token_ids: list[TokenIds]) -> list[np.ndarray | EmbeddingFailedError]:
        """One row a text; where the engine fails on a pack, each of its texts is tried alone."""
        try:
            vectors = self._engine.embed(token_ids)
            if len(vectors) != len(token_ids):
                raise RuntimeError(f"{len(vectors)} vectors for {len(token_ids)} texts")
        except Exception as error:
            if len(token_ids) == 1:
                return [EmbeddingFailedError(f"the model failed on this text: {type(error).__name__}")]
            return [row for ids in token_ids for row in self._forward([ids])]
        finite = [bool(np.isfinite(row).all()) for row in vectors]
        return [
            row if ok else EmbeddingFailedError("the model gave no finite vector for this text")
            for row, ok in zip(vectors, finite, strict=True)
        ]

    def _account(self, pack: list[_Text], started: float, seconds: float) -> None:
        tokens = sum(len(text.token_ids) for text in pack)
        rate = tokens / max(seconds, 1e-6)
        self._tokens_per_second += (rate - self._tokens_per_second) * (0.1 if self._tokens_per_second else 1)
        waited = started - min(text.job.arrived for text in pack)
        self._report(PackReport(len(pack), tokens, seconds, waited))

    def _drain_seconds(self) -> int:
        """Whole seconds until half of the queue is gone, at the measured rate."""
        return max(1, math.ceil(self.queued_tokens / 2 / max(self._tokens_per_second, 1.0)))
