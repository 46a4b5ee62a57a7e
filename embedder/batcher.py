"""Batches the texts of all callers for one engine."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np

from embedder.admission import Admission
from embedder.errors import EmbeddingFailedError, EngineEndedError
from embedder.model import Engine
from embedder.pack_queue import Flight, Job, PackQueue, Text
from embedder.postprocess import Vectors
from embedder.tokenized_text import TokenIds


@dataclass(frozen=True, slots=True)
class PackReport:
    """One forward pass, for metrics."""

    texts: int
    tokens: int
    seconds: float  # in the engine
    waited: float  # seconds in the queue, of the text that waited longest


@dataclass(frozen=True, slots=True)
class JobReport:
    """When a request arrived, first ran and was done, by time.monotonic()."""

    arrived: float
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets."""

    vectors: Vectors  # (n_texts, dimensions), in the order of its texts
    shared: list[int]  # indices of texts that were computed in the turns of other requests


# Is given the key and the vector of each text that has a key, and whose turn it was computed in.
Keep: TypeAlias = Callable[[bytes, np.ndarray, str], None]


class Batcher:
    """Greedy batching by tokens: an idle engine starts at once, a busy one lets texts accumulate.

    The engine's thread takes one pack after the other without waiting for the event loop. With 32
    callers the engine was idle for a third of the time while the loop wrote their answers.

    The queue is fair between users, and `admission` bounds it. Queued texts of a cancelled caller
    are dropped. A text that the engine fails on fails only the requests that have it.
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
        keep: Keep = lambda key, row, user: None,
    ) -> None:
        self._engine = engine
        self._batch_tokens = batch_tokens
        self.admission = admission
        self._report, self._report_job, self._keep = report, report_job, keep
        self._queue = PackQueue(batch_tokens=batch_tokens, batch_size=batch_size)
        self._wake_ups: SimpleQueue[None] = SimpleQueue()  # for the engine's thread
        self._wake_up_due = self._closing = False
        self._thread = threading.Thread(target=self._run_packs, name="engine", daemon=True)
        self._jobs: set[Job] = set()
        self._flights: dict[bytes, Flight] = {}  # by key
        self.ended_by: Exception | None = None  # why no more work is accepted
        # time.monotonic() at the start of the forward pass in progress
        self.running_since: float | None = None

    def start(self) -> None:
        """Begin to accept work, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def abandon(self, error: Exception) -> None:
        """Accept no more work, and raise `error` in every waiting call.

        A forward pass in progress cannot be stopped.
        """
        self.ended_by = error
        for job in self._jobs:
            job.fail(error)

    async def close(self) -> None:
        """Stop accepting work and wait for the forward pass in progress."""
        self._closing = True
        self._wake_ups.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def run(self, token_ids: Sequence[TokenIds], *, user: str, bulk: bool = False) -> Vectors:
        """The vectors of `answer`, of texts that are computed for this request alone."""
        return (await self.answer(token_ids, [None] * len(token_ids), user=user, bulk=bulk)).vectors

    async def answer(
        self,
        token_ids: Sequence[TokenIds],
        keys: Sequence[bytes | None],
        *,
        user: str,
        bulk: bool = False,
        known: int = 0,
    ) -> Answer:
        """Vectors of one request's texts, in their order.

        Args:
            token_ids: the texts, each (n_tokens,).
            keys: one per text. Texts with the same key that wait or run are computed once.
            user: whose share of the queue it takes.
            bulk: whether all other work has priority.
            known: further vectors that the request holds in memory until it is answered.

        Returns:
            (n_texts, dimensions) float32, L2-normalised.

        Raises:
            NotAdmittedError: `Admission.admit` refused the request.
            EmbeddingFailedError: the engine failed on a text; has its index.
            EngineError: the engine has ended, or the error that `abandon` was given.
        """
        if self.ended_by is not None:
            raise self.ended_by
        lengths = [len(ids) for ids in token_ids]
        self.admission.admit(user, [*lengths, *[0] * known], bulk=bulk)
        large = sum(lengths) > self._batch_tokens
        job = Job(user, len(lengths), large, bulk, self._loop.create_future())
        self._jobs.add(job)
        try:
            self._join_flights(job, token_ids, keys)
            self._wake_soon()
            return Answer(await job.answer, job.shared)
        finally:
            self._leave(job)
            for _ in range(known):
                self.admission.release(user, 0)

    def _join_flights(
        self, job: Job, token_ids: Sequence[TokenIds], keys: Sequence[bytes | None]
    ) -> None:
        """Let every text wait for its flight, and queue those whose flight does not run yet."""
        waiting = []
        for index, (ids, key) in enumerate(zip(token_ids, keys, strict=True)):
            flight = self._flight_of(ids, key)
            text = Text(job, index, flight)
            flight.texts.append(text)
            if not flight.taken:
                waiting.append(text)
        self._queue.push(waiting)

    def _flight_of(self, token_ids: TokenIds, key: bytes | None) -> Flight:
        if key is None:
            return Flight(token_ids, None)
        return self._flights.setdefault(key, Flight(token_ids, key))

    def _leave(self, job: Job) -> None:
        """Remove a job that is answered, has failed, or was cancelled."""
        self._jobs.discard(job)
        left = self._queue.drop(job) if job.missing or job.shared else ()
        for text in left:
            if not text.flight.taken:  # else it is released when its flight ends
                text.flight.texts.remove(text)
                self._forget_if_empty(text.flight)
                self.admission.release(job.user, len(text.token_ids))
        ended = time.monotonic()
        self._report_job(JobReport(job.arrived, job.started or ended, ended))

    def _forget_if_empty(self, flight: Flight) -> None:
        if flight.key is not None and not flight.texts:
            del self._flights[flight.key]

    def _wake_soon(self) -> None:
        """Wake the engine's thread once per turn of the loop, so that its requests share packs."""
        if not self._wake_up_due:
            self._wake_up_due = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._wake_up_due = False
        if self.running_since is None:  # else the thread takes the next pack by itself
            self._wake_ups.put(None)

    def _run_packs(self) -> None:
        """The engine's thread."""
        with suppress(RuntimeError):  # the loop is closed, so no caller waits
            try:
                while not self._closing and self.ended_by is None:
                    if pack := self._queue.take():
                        self._run(pack)
                    else:
                        self._wake_ups.get()
            except BaseException as error:  # otherwise all callers would wait for ever
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
        for first, row in zip(pack, rows, strict=True):
            self._land(first, row)

    def _land(self, first: Text, row: np.ndarray | EmbeddingFailedError) -> None:
        """Deliver the vector of a text, which ran in the turn of `first`, to all who wait."""
        flight = first.flight
        if flight.key is not None:
            del self._flights[flight.key]
        for text in flight.texts:
            self.admission.release(text.job.user, len(text.token_ids))
            text.job.deliver(text.index, row, shared=text is not first)
        if flight.key is not None and not isinstance(row, EmbeddingFailedError):
            self._keep(flight.key, row, first.job.user)  # every caller has the vector by now

    def _forward(self, token_ids: list[TokenIds]) -> list[np.ndarray | EmbeddingFailedError]:
        """One row per text. If the engine fails on a pack, each of its texts is tried alone."""
        try:
            vectors = self._engine.forward(token_ids)
            if len(vectors) != len(token_ids):
                raise RuntimeError(f"{len(vectors)} vectors for {len(token_ids)} texts")
        except Exception as error:
            if len(token_ids) == 1:
                return [
                    EmbeddingFailedError(f"the model failed on this text: {type(error).__name__}")
                ]
            return [row for ids in token_ids for row in self._forward([ids])]
        finite = np.isfinite(vectors.sum(axis=1))  # values are within -1 and 1
        return [
            row if ok else EmbeddingFailedError("the model gave no finite vector for this text")
            for row, ok in zip(vectors, finite, strict=True)
        ]

    def _account(self, pack: list[Text], started: float, seconds: float) -> None:
        tokens = sum(len(text.token_ids) for text in pack)
        self.admission.measure(tokens, seconds)
        waited = started - min(text.job.arrived for text in pack)
        self._report(PackReport(len(pack), tokens, seconds, waited))
