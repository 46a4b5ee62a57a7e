"""A thread that tokenises for all users, slice by slice, in turns."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from embedder import heap
from embedder.fair_queue import FairQueue
from embedder.long_text import WINDOW

Item = TypeVar("Item")

LARGE = 250_000  # characters; the body, texts and tokens of a larger request take megabytes
TRIM_DELAY = 2.0  # seconds from a large request until freed memory is returned


@dataclass(slots=True, eq=False)
class Job:
    """The texts of one request, being tokenised."""

    user: str
    slices: Iterator[list[Any]]
    cost: int  # in characters
    answer: "asyncio.Future[list[Any]]"
    done: list[Any] = field(default_factory=list)

    def step(self) -> Exception | bool:
        """Tokenise a slice. Returns whether all are done, or the error that it raised."""
        try:
            texts = next(self.slices, None)
        except Exception as error:
            # Without this frame, which would make a reference cycle that contains the texts.
            below = error.__traceback__.tb_next if error.__traceback__ else None
            return error.with_traceback(below)
        except BaseException as error:  # a panic in the tokenizer's Rust
            return RuntimeError(f"the tokenizer failed: {error}")
        self.done += texts or []
        return texts is None

    def finish(self, error: Exception | None) -> None:
        """Hand the tokens, or the error, to the caller."""
        if self.answer.done():  # the caller has cancelled
            return
        if error is None:
            self.answer.set_result(self.done)
        else:
            self.answer.set_exception(error)


class TokenisingThread:
    """Tokenises one slice of each user in turn, and a user's requests one after the other.

    So a small request waits for at most one slice of each other user. One thread is enough: it
    tokenises in a second what the engine computes in minutes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, dict[Job, None]] = {}  # by user, in order of arrival
        # Every user in `_jobs` once, except the one whose slice runs.
        self._turns: FairQueue[str] = FairQueue()
        self._wake_ups: SimpleQueue[None] = SimpleQueue()  # for the thread
        self._closing = False
        self._trim_at: float | None = None  # time.monotonic()
        self._thread = threading.Thread(target=self._work, name="tokenising", daemon=True)

    def start(self) -> None:
        """Begin to accept work, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Stop accepting work and wait for the slice in progress."""
        self._closing = True
        self._wake_ups.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def run(self, slices: Iterator[list[Item]], *, user: str, cost: int) -> list[Item]:
        """All items of `slices`. A cancelled call stops after the slice in progress.

        Args:
            slices: of one request. Only the thread iterates over them.
            user: whose turns it takes.
            cost: characters of all slices.

        Raises:
            Exception: whatever `slices` raise.
        """
        job = Job(user, slices, cost, self._loop.create_future())
        with self._lock:
            if user in self._jobs:
                self._jobs[user][job] = None
            else:
                self._jobs[user] = {job: None}
                self._take_turn(job)
        self._wake_ups.put(None)
        try:
            return await job.answer
        finally:
            self._leave(job)
            del job  # breaks the cycle of the job, its error and the error's traceback

    def _take_turn(self, job: Job) -> None:
        self._turns.push(job.user, job.user, min(job.cost, WINDOW))

    def _leave(self, job: Job) -> None:
        with self._lock:
            self._jobs.get(job.user, {}).pop(job, None)
        if job.cost >= LARGE and self._trim_at is None:
            self._trim_at = time.monotonic() + TRIM_DELAY
            self._wake_ups.put(None)

    def _work(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, so no caller waits
            while not self._closing:
                if not self._step():
                    self._wait()
                if self._trim_at is not None and time.monotonic() >= self._trim_at:
                    self._trim_at = None
                    heap.trim()

    def _step(self) -> bool:
        """Run a slice of the next job; False if there is none."""
        job = self._next()
        if job is None:
            return False
        ended = job.step()
        with self._lock:
            jobs = self._jobs[job.user]
            if ended:
                jobs.pop(job, None)
            if jobs:
                self._take_turn(next(iter(jobs)))
            else:
                del self._jobs[job.user]
        if ended:
            error = ended if isinstance(ended, Exception) else None
            self._loop.call_soon_threadsafe(job.finish, error)
        return True

    def _next(self) -> Job | None:
        with self._lock:
            while self._turns.peek() is not None:
                user = self._turns.pop()
                if jobs := self._jobs[user]:
                    return next(iter(jobs))
                del self._jobs[user]  # all its callers have cancelled
        return None

    def _wait(self) -> None:
        """Wait for work, or until freed memory is to be returned."""
        seconds = None if self._trim_at is None else max(self._trim_at - time.monotonic(), 0)
        with suppress(Empty):
            self._wake_ups.get(timeout=seconds)
