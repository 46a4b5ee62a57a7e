"""Runs all batches in the background, the users in turns."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from batches.errors import ContentLostError, NoSuchFileError, StorageFullError
from batches.records import Batch, Problem
from batches.store import Store
from batches.work import NO_SPACE, Work

LOG = logging.getLogger("embedding_api")
LOOK_AGAIN = 300.0  # seconds; a limit may be raised meanwhile
REFUSED_WAIT = 60.0  # seconds until a batch of a blocked user is looked at again
FAILED_WAIT = 30.0  # seconds until a batch is tried again after an unexpected error
SWEEP_EVERY = 60.0  # seconds between two searches for what was kept long enough
LEAST_TOKENS = 256  # that a turn counts: it is written to the disk, whatever it holds
LAST_PART = 3.0  # seconds that the part in progress may take when the process ends


class Runner:
    """One task that gives the users with unfinished batches turns, fair by tokens.

    Turns differ in size, from 64 short lines to one of megabytes. So the user who has had the
    fewest tokens is next, as in `embedder/fair_queue.py`. A user's batches run in the order in
    which they were made.

    Args:
        store: of the batches.
        work: does one turn's work.
        admits: whether a user may be served.
        stopping: whether this process ends soon.
    """

    def __init__(
        self,
        store: Store,
        work: Work,
        *,
        admits: Callable[[str], bool],
        stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._work = work
        self._admits = admits
        self._stopping = stopping
        self._unfinished: dict[str, Batch] = {}
        self._not_before: dict[str, float] = {}  # by batch, time.monotonic()
        self._changed: set[str] = set()  # batches that were added since their last turn began
        self._had: dict[str, int] = {}  # tokens of each user
        self._now = 0  # tokens of the last user before their turn; a new user starts from here
        self._wake_up = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._progress_at = time.monotonic()

    def start(self) -> None:
        """Open the store and run what is unfinished, in the background."""
        self._task = asyncio.create_task(self._run(), name="batches")

    async def close(self) -> None:
        """Stop after the part in progress, or at once if it takes long: a start repeats it."""
        self._closing = True
        self._wake_up.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=LAST_PART)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._store.close()

    def add(self, batch: Batch) -> None:
        """Run a new batch, or look at one that has changed."""
        self._unfinished[batch.id] = batch
        self._not_before.pop(batch.id, None)
        self._changed.add(batch.id)
        self._wake_up.set()

    def stalled_seconds(self) -> float:
        """Seconds since the last turn, if a batch could have had one since; else 0."""
        if self._next() is None:
            return 0.0
        return max(0.0, time.monotonic() - self._progress_at)

    async def _run(self) -> None:
        await self._open()
        for batch in self._store:
            if not batch.finished:
                self._work.found(batch)
                self.add(batch)
        sweeping = asyncio.create_task(self._sweep(), name="sweep of batches")
        try:
            await self._serve_all()
        finally:
            sweeping.cancel()

    async def _serve_all(self) -> None:
        while not (self._closing or self._stopping()):
            if (due := self._next()) is None:
                await self._wait()
            else:
                await self._serve(due)

    async def _sweep(self) -> None:
        """Delete what is old enough, also while a batch waits for space on the disk."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            await self._guarded(self._store.sweep())

    async def _open(self) -> None:
        while True:
            try:
                await self._store.open()
            except OSError as error:
                LOG.error("batch_directory", extra={"fields": {"error": type(error).__name__}})
                await asyncio.sleep(FAILED_WAIT)
            else:
                return

    async def _wait(self) -> None:
        """Wait for a new batch, or until one of those that wait may be due."""
        self._progress_at = time.monotonic()
        self._wake_up.clear()
        try:
            async with asyncio.timeout(1.0 if self._unfinished else SWEEP_EVERY):
                await self._wake_up.wait()
        except TimeoutError:
            return

    def _next(self) -> Batch | None:
        """The first due batch of the user who has had the fewest tokens."""
        now = time.monotonic()
        due: dict[str, Batch] = {}
        for batch in self._unfinished.values():
            if self._not_before.get(batch.id, 0.0) <= now:
                due.setdefault(batch.user_id, batch)
        user = min(due, key=lambda user: self._had.get(user, 0), default=None)
        return None if user is None else due[user]

    async def _serve(self, batch: Batch) -> None:
        self._changed.discard(batch.id)
        before = batch.progress.prompt_tokens
        seconds = await self._step(batch)
        self._progress_at = time.monotonic()
        self._count(batch.user_id, batch.progress.prompt_tokens - before)
        if batch.finished:
            _log_end(batch)
            self._forget(batch)
        elif seconds and batch.id not in self._changed:
            left = batch.expires_at - self._store.clock()
            wait = min(seconds, LOOK_AGAIN, max(left, 0.0))
            self._not_before[batch.id] = time.monotonic() + wait

    def _count(self, user_id: str, tokens: int) -> None:
        """Count a turn. Of users with the same count, who was served last comes last."""
        self._now = max(self._now, self._had.pop(user_id, 0))
        self._had[user_id] = self._now + max(tokens, LEAST_TOKENS)

    def _forget(self, batch: Batch) -> None:
        """Forget a batch, and the counts that are over."""
        self._unfinished.pop(batch.id, None)
        self._not_before.pop(batch.id, None)
        self._changed.discard(batch.id)
        least = self._now if self._unfinished else math.inf
        self._had = {user: count for user, count in self._had.items() if count > least}

    async def _step(self, batch: Batch) -> float:
        """One turn. Returns seconds until the next one."""
        runs = batch.status == "in_progress" and self._store.clock() < batch.expires_at
        if runs and not self._admits(batch.user_id):
            return REFUSED_WAIT
        try:
            return await self._work.step(batch)
        except StorageFullError:
            LOG.error("batch_directory_full", extra={"fields": {"batch": batch.id}})
            return NO_SPACE
        except NoSuchFileError as error:
            problem = Problem("input_missing", str(error), "input_file_id")
        except ContentLostError as error:
            problem = Problem(error.reason, str(error))
        except Exception as error:
            fields = {"batch": batch.id, "error": type(error).__name__}
            LOG.error("batch_step_failed", extra={"fields": fields})
            return FAILED_WAIT
        LOG.error("batch_damaged", extra={"fields": {"batch": batch.id, "reason": problem.code}})
        await self._guarded(self._store.fail(batch, problem))
        return FAILED_WAIT

    async def _guarded(self, change: Awaitable[None]) -> None:
        """Await a change of the store; what fails is tried again later."""
        try:
            await change
        except Exception as error:
            LOG.error("batch_directory", extra={"fields": {"error": type(error).__name__}})


def _log_end(batch: Batch) -> None:
    progress = batch.progress
    fields = {
        "batch": batch.id,
        "caller": batch.caller,
        "status": batch.status,
        "requests": batch.total,
        "completed": progress.completed,
        "failed": progress.failed,
        "tokens": progress.prompt_tokens,
    }
    LOG.info("batch_ended", extra={"fields": fields})
