"""Tokenising beside the event loop, in turns between users."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TypeAlias

from embedder import heap
from embedder.fair_queue import FairQueue
from embedder.long_text import WINDOW
from embedder.tokens import TokenizedText

Slices: TypeAlias = Iterator[list[TokenizedText]]  # as of Tokenizer.slices

LARGE = 250_000  # characters of a request whose body, texts and tokens were megabytes
TRIM_DELAY = 2.0  # seconds from a large request to giving memory back


@dataclass(slots=True, eq=False)
class Job:
    """One request's texts on their way to tokens."""

    user: str
    slices: Slices
    cost: int  # in characters
    answer: "asyncio.Future[list[TokenizedText]]"
    done: list[TokenizedText] = field(default_factory=list)

    def step(self) -> Exception | bool:
        """Tokenise a slice. Whether it was the last, or the error that it ended with."""
        try:
            texts = next(self.slices, None)
        except Exception as error:
            below = error.__traceback__.tb_next if error.__traceback__ else None
            return error.with_traceback(
                below
            )  # this frame would make a cycle, with the texts in it
        except BaseException as error:  # a panic in the tokenizer's Rust
            return RuntimeError(f"the tokenizer failed: {error}")
        self.done += texts or []
        return texts is None

    def finish(self, error: Exception | None) -> None:
        if self.answer.done():  # the caller is gone
            return
        if error is None:
            self.answer.set_result(self.done)
        else:
            self.answer.set_exception(error)


class TokenisingThread:
    """Tokenises slice by slice: one of each user in turn, and a user's requests one after another.

    So a small request waits for at most one slice of each other user. One thread does: it tokenises in
    a second what the engine computes in minutes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, dict[Job, None]] = {}  # by user, in order of arrival
        self._turns: FairQueue[str] = (
            FairQueue()
        )  # once for each user in `_jobs` but the one at work
        self._bell: SimpleQueue[None] = SimpleQueue()  # wakes the thread
        self._closing = False
        self._trim_at: float | None = None  # time.monotonic()
        self._thread = threading.Thread(target=self._work, name="tokenising", daemon=True)

    def start(self) -> None:
        """Begin to take work, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Stop taking work and wait for the slice under way."""
        self._closing = True
        self._bell.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def run(self, slices: Slices, *, user: str, cost: int) -> list[TokenizedText]:
        """All that `slices` give; raises what they raise. Nothing more is done for a cancelled caller.

        Args:
            slices: of one request; the thread alone uses them.
            user: whose turns it takes.
            cost: of all slices, in characters.
        """
        job = Job(user, slices, cost, self._loop.create_future())
        with self._lock:
            if user in self._jobs:
                self._jobs[user][job] = None
            else:
                self._jobs[user] = {job: None}
                self._take_turn(job)
        self._bell.put(None)
        try:
            return await job.answer
        finally:
            self._leave(job)
            del job  # an error's traceback has this frame, and the job has the error

    def _take_turn(self, job: Job) -> None:
        self._turns.push(job.user, job.user, min(job.cost, WINDOW))

    def _leave(self, job: Job) -> None:
        with self._lock:
            self._jobs.get(job.user, {}).pop(job, None)
        if job.cost >= LARGE and self._trim_at is None:
            self._trim_at = time.monotonic() + TRIM_DELAY
            self._bell.put(None)

    def _work(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            while not self._closing:
                if not self._step():
                    self._wait()
                if self._trim_at is not None and time.monotonic() >= self._trim_at:
                    self._trim_at = None
                    heap.give_back()

    def _step(self) -> bool:
        """Run a slice of the job whose turn it is; False if there is none."""
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
                del self._jobs[user]  # its callers are gone
        return None

    def _wait(self) -> None:
        """Until there is work, or memory to give back."""
        seconds = None if self._trim_at is None else max(self._trim_at - time.monotonic(), 0)
        with suppress(Empty):
            self._bell.get(timeout=seconds)
