"""Callers' texts, gathered into packs for the one engine."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from embedder.admission import Admission
from embedder.errors import EmbeddingFailedError, EngineEndedError
from embedder.model import Engine
from embedder.pack_queue import Job, PackQueue, Text
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


class Batcher:
    """Greedy, token-budgeted batching: an idle engine starts at once, a busy one lets texts gather.

    The engine's thread takes pack after pack without a turn of the event loop between two: with 32
    callers the engine stood still for a third of the time while the loop wrote their answers.

    Fair between users, and bounded for each and all of them by `admission`. A cancelled caller's queued
    texts are dropped, and a text that the engine fails on fails its own request only.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        batch_tokens: int,
        batch_size: int,
        admission: Admission,
        report: Callable[[PackReport], None] = lambda _: None,
        report_job: Callable[[JobReport], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._batch_tokens = batch_tokens
        self.admission = admission
        self._report, self._report_job = report, report_job
        self._queue = PackQueue(batch_tokens=batch_tokens, batch_size=batch_size)
        self._bell: SimpleQueue[None] = SimpleQueue()  # wakes the engine's thread
        self._bell_due = self._closing = False
        self._thread = threading.Thread(target=self._run_packs, name="engine", daemon=True)
        self._jobs: set[Job] = set()
        self.ended_by: Exception | None = None  # why no more work is taken
        self.running_since: float | None = None  # time.monotonic() of the forward pass under way

    def start(self) -> None:
        """Begin to take work, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def abandon(self, error: Exception) -> None:
        """Take no more work, and raise `error` to everybody who waits: a forward pass cannot be ended."""
        self.ended_by = error
        for job in self._jobs:
            job.fail(error)

    async def close(self) -> None:
        """Stop taking work and wait for the forward pass under way."""
        self._closing = True
        self._bell.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def embed(
        self, token_ids: Sequence[TokenIds], *, user: str, bulk: bool = False
    ) -> Vectors:
        """Vectors of one request's texts, in their order.

        Args:
            token_ids: the texts, each (n_tokens,).
            user: whose turn in the queue it takes.
            bulk: whether all other work goes before it.

        Returns:
            (n_texts, dimensions) float32, L2-normalised.

        Raises:
            NoRoomError: as Admission.admit.
            EmbeddingFailedError: the engine failed on a text; carries its index.
            EngineError: it has ended, or whatever `abandon` was given.
        """
        if self.ended_by is not None:
            raise self.ended_by
        lengths = [len(ids) for ids in token_ids]
        self.admission.admit(user, lengths, bulk=bulk)
        large = sum(lengths) > self._batch_tokens
        job = Job(user, len(lengths), large, bulk, self._loop.create_future())
        self._jobs.add(job)
        try:
            self._queue.push(job, token_ids)
            self._ring_soon()
            return await job.answer
        finally:
            self._leave(job)

    def _leave(self, job: Job) -> None:
        """Its answer is there, or it failed, or its caller is gone."""
        self._jobs.discard(job)
        for text in self._queue.drop(job) if job.missing else ():
            self.admission.release(job.user, len(text.token_ids))
        ended = time.monotonic()
        self._report_job(JobReport(job.arrived, job.started or ended, ended))

    def _ring_soon(self) -> None:
        """Once for all requests of a turn of the loop, so that they share packs."""
        if not self._bell_due:
            self._bell_due = True
            self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._bell_due = False
        if self.running_since is None:  # else the thread looks by itself when the pass is over
            self._bell.put(None)

    def _run_packs(self) -> None:
        """The engine's thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            try:
                while not self._closing and self.ended_by is None:
                    if pack := self._queue.take():
                        self._run(pack)
                    else:
                        self._bell.get()
            except BaseException as error:  # or else all would wait for ever
                self._loop.call_soon_threadsafe(self.abandon, EngineEndedError(error))

    def _run(self, pack: list[Text]) -> None:
        self.running_since = started = time.monotonic()
        for text in pack:
            text.job.started = text.job.started or started
        rows = self._forward([text.token_ids for text in pack])
        seconds = time.monotonic() - started
        self.running_since = None
        self._loop.call_soon_threadsafe(self._deliver, pack, rows, started, seconds)

    def _deliver(
        self,
        pack: list[Text],
        rows: list[np.ndarray | EmbeddingFailedError],
        started: float,
        seconds: float,
    ) -> None:
        try:
            self._account(pack, started, seconds)
        except Exception as error:
            self.abandon(EngineEndedError(error))
        for text, row in zip(pack, rows, strict=True):
            self.admission.release(text.job.user, len(text.token_ids))
            text.job.deliver(text.index, row)

    def _forward(self, token_ids: list[TokenIds]) -> list[np.ndarray | EmbeddingFailedError]:
        """One row per text; where the engine fails on a pack, each of its texts is tried alone."""
        try:
            vectors = self._engine.embed(token_ids)
            if len(vectors) != len(token_ids):
                raise RuntimeError(f"{len(vectors)} vectors for {len(token_ids)} texts")
        except Exception as error:
            if len(token_ids) == 1:
                return [
                    EmbeddingFailedError(f"the model failed on this text: {type(error).__name__}")
                ]
            return [row for ids in token_ids for row in self._forward([ids])]
        finite = np.isfinite(vectors.sum(axis=1))  # of values within -1 and 1: all or nothing
        return [
            row if ok else EmbeddingFailedError("the model gave no finite vector for this text")
            for row, ok in zip(vectors, finite, strict=True)
        ]

    def _account(self, pack: list[Text], started: float, seconds: float) -> None:
        tokens = sum(len(text.token_ids) for text in pack)
        self.admission.measure(tokens, seconds)
        waited = started - min(text.job.arrived for text in pack)
        self._report(PackReport(len(pack), tokens, seconds, waited))
