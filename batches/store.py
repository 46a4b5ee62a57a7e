"""Batches and files of all users, as one process has them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

from batches.directory import Directory
from batches.errors import (
    BatchFinishedError,
    FileInUseError,
    NoSuchBatchError,
    StoreClosedError,
    TooManyBatchesError,
)
from batches.files import Files
from batches.ids import new_batch_id, new_file_id
from batches.records import OUTPUT, Batch, Problem, StoredFile
from batches.space import LEAST, Space

MAX_UNFINISHED = 100  # batches of one user
RETRY_LOCK = 1.0  # seconds between two looks for a directory that another process has


class Store:
    """All batches and files. Changes are on the disk when a method returns.

    Args:
        directory: where they are.
        space: what they may take.
        max_file_bytes: of one uploaded file.
        retention: seconds that a file, or a finished batch, is kept.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: Directory,
        space: Space,
        *,
        max_file_bytes: int,
        retention: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.space = space
        self.clock = clock
        self._retention = retention
        self._files = Files(directory, space, max_bytes=max_file_bytes)
        self._of: defaultdict[str, dict[str, Batch]] = defaultdict(dict)  # oldest first
        self._saving = asyncio.Lock()
        self._open = False

    async def open(self) -> None:
        """Wait for the directory, and read what is in it. Raises OSError."""
        await asyncio.to_thread(self.directory.prepare)
        while not await asyncio.to_thread(self.directory.lock):  # noqa: ASYNC110 (no event)
            await asyncio.sleep(RETRY_LOCK)
        files = await asyncio.to_thread(self.directory.files)
        batches = await asyncio.to_thread(self.directory.batches)
        written = [batch for batch in batches if not batch.finished]
        known = {file.id for file in files}
        known |= {name for b in written for name in (b.output_file_id, b.error_file_id)}
        await asyncio.to_thread(self.directory.clean, known)
        for batch in batches:
            self._of[batch.user_id][batch.id] = batch
            self.space.add(batch.user_id, LEAST + batch.reserved)
        self._files.load(files)
        self._open = True

    def close(self) -> None:
        """Let another process have the directory."""
        self._open = False
        self.directory.unlock()

    @property
    def files(self) -> Files:
        """Every file. Raises StoreClosedError before the directory is open."""
        self._require_open()
        return self._files

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batches in self._of.values() for batch in batches.values())

    def of(self, user_id: str) -> list[Batch]:
        """A user's batches, the oldest first. Raises StoreClosedError."""
        self._require_open()
        return list(self._of[user_id].values()) if user_id in self._of else []

    def get(self, user_id: str, batch_id: str) -> Batch:
        """A user's batch. Raises NoSuchBatchError, StoreClosedError."""
        self._require_open()
        batch = self._of[user_id].get(batch_id) if user_id in self._of else None
        if batch is None:
            raise NoSuchBatchError(batch_id)
        return batch

    def expiry(self, seconds: float | None = None) -> int:
        """When a file of now is deleted: after the retention, or sooner if `seconds` say so."""
        kept = self._retention if seconds is None else min(seconds, self._retention)
        return int(self.clock() + kept)

    async def create(
        self,
        file: StoredFile,
        *,
        caller: str,
        endpoint: str,
        window: str,
        seconds: int,
        metadata: dict[str, str] | None,
        kept_seconds: int | None = None,
    ) -> Batch:
        """A new batch, which is not checked yet.

        Args:
            file: its input.
            caller: who asks, for metrics.
            endpoint: that answers its requests.
            window: as the caller wrote it.
            seconds: of the window.
            metadata: of the caller.
            kept_seconds: how long the answers are kept, if not for the retention.

        Raises:
            TooManyBatchesError: too many of the user's are not finished.
            UserStorageFullError: the user has no space for its record.
            StorageFullError: all users together have none, or the disk is full.
        """
        user_id = file.user_id
        if sum(not batch.finished for batch in self.of(user_id)) >= MAX_UNFINISHED:
            raise TooManyBatchesError(MAX_UNFINISHED)
        now = int(self.clock())
        batch = Batch(
            new_batch_id(), user_id, caller, file.id, new_file_id(), new_file_id(), endpoint,
            window, metadata, created_at=now, expires_at=now + seconds,
            kept_seconds=kept_seconds,
        )  # fmt: skip
        self.space.reserve(user_id, LEAST)
        self._of[user_id][batch.id] = batch
        try:
            await self.save(batch)
        except BaseException:
            self._drop(batch)
            raise
        return batch

    async def save(self, batch: Batch) -> None:
        """Write a batch as it is now. Raises StorageFullError."""
        async with self._saving:  # an older state must not be written after a newer one
            await asyncio.to_thread(self.directory.keep, batch)

    async def cancel(self, batch: Batch) -> None:
        """Ask for the end of a batch. Raises BatchFinishedError, StorageFullError."""
        if batch.finished or batch.status == "finalizing":
            raise BatchFinishedError(batch.id, batch.status)
        if batch.status != "cancelling":
            batch.reach("cancelling", self.clock())
            await self.save(batch)

    async def delete(self, file: StoredFile) -> None:
        """Delete a file. Raises FileInUseError for the input of a batch that is not finished."""
        if (batch := self._reader(file)) is not None:
            raise FileInUseError(batch.id)
        await self._files.delete(file)

    async def finish(self, batch: Batch) -> None:
        """Hand out what a batch has written, and end it. Can be repeated after a crash.

        Raises:
            ContentLostError: some of it is not there any more.
            StorageFullError: the disk is full.
        """
        progress = batch.progress
        for file_id, n_bytes, what in (
            (batch.output_file_id, progress.output_bytes, "output"),
            (batch.error_file_id, progress.error_bytes, "error"),
        ):
            await asyncio.to_thread(self.directory.trim, file_id, n_bytes)
            if n_bytes:
                now = int(self.clock())
                name = f"{batch.id}_{what}.jsonl"
                expiry = self.expiry(batch.kept_seconds)
                file = StoredFile(file_id, batch.user_id, name, n_bytes, OUTPUT, now, expiry)
                await self._files.keep(file)
        self.space.add(batch.user_id, -batch.reserved)
        batch.reserved = 0
        before = batch.status
        batch.reach(batch.ends_as or "completed", self.clock())
        try:
            await self.save(batch)
        except BaseException:
            batch.status = before
            raise

    async def fail(self, batch: Batch, problem: Problem) -> None:
        """End a batch that cannot go on, and hand out what there is of its answers.

        Raises:
            StorageFullError: the disk is full.
        """
        batch.problems, batch.ends_as = [problem], "failed"
        intact, progress = self.directory.intact, batch.progress
        batch.progress = replace(
            progress,
            output_bytes=await asyncio.to_thread(
                intact, batch.output_file_id, progress.output_bytes
            ),
            error_bytes=await asyncio.to_thread(intact, batch.error_file_id, progress.error_bytes),
        )
        await self.finish(batch)

    async def sweep(self) -> None:
        """Delete what was kept long enough."""
        now = self.clock()
        for file in [file for file in self._files if file.expires_at <= now]:
            if self._reader(file) is None:
                await self._files.delete(file)
        ended = [b for b in self if b.finished and _ended(b) + self._retention <= now]
        for batch in ended:
            self._drop(batch)
            await asyncio.to_thread(self.directory.forget, batch.id)

    def _require_open(self) -> None:
        if not self._open:
            raise StoreClosedError

    def _reader(self, file: StoredFile) -> Batch | None:
        """The batch that still reads a file, if one does."""
        batches = self.of(file.user_id)
        return next((b for b in batches if b.input_file_id == file.id and not b.finished), None)

    def _drop(self, batch: Batch) -> None:
        if self._of[batch.user_id].pop(batch.id, None) is not None:
            self.space.add(batch.user_id, -LEAST)
        if not self._of[batch.user_id]:
            del self._of[batch.user_id]


def _ended(batch: Batch) -> int:
    return batch.times.get(batch.status, batch.created_at)
