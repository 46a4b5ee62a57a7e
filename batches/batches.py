"""Everything about batches that a process has."""

from __future__ import annotations

from collections.abc import Callable

from batches.answering import Answerer
from batches.records import Batch, Progress
from batches.runner import Runner
from batches.store import Store
from batches.work import Work
from quota.quota import Quota
from quota.receipt import Receipt


class Batches:
    """A store, and a task that runs what is in it.

    Args:
        store: not yet open.
        quota: charges the tokens of batches.
        longest_body: bytes of the body of one request.
        admits: whether a user may be served.
        stopping: whether this process ends soon.
        report: is told of a batch and its progress before, whenever more of it is on the disk.
    """

    def __init__(
        self,
        store: Store,
        quota: Quota,
        *,
        longest_body: int,
        admits: Callable[[str], bool],
        stopping: Callable[[], bool],
        report: Callable[[Batch, Progress], None],
    ) -> None:
        self.store = store
        self._quota = quota
        self._longest_body = longest_body
        self._admits = admits
        self._stopping = stopping
        self._report = report
        self.runner: Runner | None = None

    async def start(self, answerer: Answerer) -> None:
        """Open the store and run its batches, in the background."""
        await self._quota.start()
        work = Work(
            self.store,
            answerer,
            self._quota,
            longest_body=self._longest_body,
            stopping=self._stopping,
            report=self._report,
        )
        self.runner = Runner(self.store, work, admits=self._admits, stopping=self._stopping)
        self.runner.start()

    async def close(self) -> None:
        """Stop after the part in progress."""
        if self.runner is not None:
            await self.runner.close()
        await self._quota.aclose()

    async def usage(self, user_id: str) -> Receipt:
        """What is left of a user's tokens for batches."""
        return await self._quota.usage(user_id)

    def schedule(self, batch: Batch) -> None:
        """Run a batch that is new, or has changed."""
        if self.runner is not None:
            self.runner.add(batch)
