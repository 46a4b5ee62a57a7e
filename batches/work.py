"""What is done with one batch, one turn after the other: check, answer, write, hand out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from batches.answering import Answerer
from batches.errors import NoSuchFileError, StorageFullError, UserStorageFullError
from batches.lines import Amount, Line, read_lines
from batches.output import append
from batches.part import Item, Part, error_lines, first_of, items_of, progress_after
from batches.records import Batch, Problem, Progress, Status
from batches.store import Store
from batches.validation import Validation
from quota.quota import Quota

LOG = logging.getLogger("embedding_api")
CHECKED = Amount(lines=256, n_bytes=262_144)  # of a file that is checked, at once
ANSWERED = Amount(lines=64, n_bytes=131_072)  # in one turn of a user
MOST_TEXTS = 2_048  # in one turn, unless one line has more: each vector takes 3 KiB
GIVEN_UP = Amount(lines=2_048, n_bytes=4_194_304)
NO_SPACE = 30.0  # seconds until a batch that found no space on the disk is tried again
ALLOWANCE = 65_536  # bytes of a line around the body of its request
_ENDS = {
    "expired": (
        "batch_expired",
        "This request was not answered within the completion window. Send it in another batch.",
    ),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
}


class Work:
    """Takes batches one step further.

    Args:
        store: of the batches.
        answerer: answers their requests.
        quota: charges their tokens.
        longest_body: bytes of the body of one request.
        stopping: whether this process ends soon.
        report: is told of a batch and its progress before, whenever more of it is on the disk.
    """

    def __init__(
        self,
        store: Store,
        answerer: Answerer,
        quota: Quota,
        *,
        longest_body: int,
        stopping: Callable[[], bool],
        report: Callable[[Batch, Progress], None],
    ) -> None:
        self._report = report
        self._store = store
        self._answerer = answerer
        self._quota = quota
        self._longest = longest_body + ALLOWANCE
        self._stopping = stopping
        self._free_to: dict[str, int] = {}  # lines that a process before this may have charged

    def found(self, batch: Batch) -> None:
        """Tell of a batch that a process before this one has left unfinished."""
        self._free_to[batch.id] = batch.progress.charged_to

    async def step(self, batch: Batch) -> float:
        """Work for one turn of the batch's user.

        Returns:
            Seconds until it is worth another turn; 0 for at once.

        Raises:
            StorageFullError: the disk is full; nothing is lost.
        """
        if batch.status == "validating" and not self._has_expired(batch):
            await self._check(batch)
            return 0.0
        if batch.status == "in_progress" and not self._has_expired(batch):
            return await self._answer(batch)
        if batch.ends_as is None:
            await self._end(batch, "cancelled" if batch.status == "cancelling" else "expired")
        if not await self._give_up(batch):
            await self._store.finish(batch)
            self._free_to.pop(batch.id, None)
        return 0.0

    def _has_expired(self, batch: Batch) -> bool:
        return self._store.clock() >= batch.expires_at

    async def _end(self, batch: Batch, status: Status) -> None:
        """Let a batch become `status` once the rest of its lines is written."""
        batch.ends_as = status
        if status != "cancelled":  # it says "cancelling" until then
            batch.reach("finalizing", self._store.clock())
        await self._store.save(batch)

    # --- checking -----------------------------------------------------------------------------

    async def _check(self, batch: Batch) -> None:
        """Check the whole input. Then it is in progress, or has failed."""
        found = Validation(self._answerer, endpoint=batch.endpoint, longest=self._longest)
        number = offset = 0
        while not found.full:
            lines = await self._read(batch, CHECKED, after=number, offset=offset)
            if not lines or batch.status != "validating":
                break
            for line in lines:
                await found.take(line)
                await asyncio.sleep(0)
            number, offset = lines[-1].number, lines[-1].end
        found.end()
        if not found.problems:
            self._reserve(batch, found)
        if batch.status != "validating":  # it was cancelled meanwhile
            return
        now = self._store.clock()
        batch.problems = found.problems
        batch.total, batch.model = found.total, found.model
        batch.reach("failed" if found.problems else "in_progress", now)
        await self._store.save(batch)

    def _reserve(self, batch: Batch, found: Validation) -> None:
        """Count what the answers may take, or add the problem that they would take too much."""
        try:
            self._store.space.reserve(batch.user_id, found.most_bytes)
            batch.reserved = found.most_bytes
        except (UserStorageFullError, StorageFullError):
            found.problems.append(
                Problem(
                    "output_too_large",
                    f"The answers may take {found.most_bytes} bytes, and your files have less "
                    "space left. Delete files, split the input, or ask for encoding_format base64.",
                )
            )

    # --- answering ----------------------------------------------------------------------------

    async def _answer(self, batch: Batch) -> float:
        """Answer the next lines. Returns seconds to wait."""
        before = batch.progress
        lines = await self._read(batch, ANSWERED, after=before.line, offset=before.offset)
        items = await items_of(lines, self._answerer, endpoint=batch.endpoint)
        if batch.status != "in_progress":  # it was cancelled meanwhile
            return 0.0
        if not items:
            await self._end(batch, "completed")
            return 0.0
        items = first_of(items, self._answerer, most_texts=MOST_TEXTS)
        batch.progress.charged_to = items[-1].line.number
        await self._store.save(batch)
        part = Part(
            batch, items, self._free_to.get(batch.id, 0), given_up=lambda: self._is_given_up(batch)
        )
        await part.answer(self._answerer, self._quota)
        await self._commit(batch, part)
        return part.seconds

    def _is_given_up(self, batch: Batch) -> bool:
        return self._stopping() or batch.status != "in_progress" or self._has_expired(batch)

    async def _commit(self, batch: Batch, part: Part) -> None:
        """Write what is answered. Waits while the disk is full or fails, because it was charged."""
        done = await part.take_done()
        while True:
            try:
                await self._write(batch, done)
            except (StorageFullError, OSError) as error:
                if self._stopping():
                    raise
                _log_unwritten(batch, error)
                await asyncio.sleep(NO_SPACE)
            else:
                return

    async def _write(self, batch: Batch, done: list[Item]) -> None:
        before = batch.progress
        if not done:
            await self._advance(batch, replace(before, charged_to=before.line))
            return
        answers = chain.from_iterable(item.output() for item in done if item.succeeded)
        errors = chain.from_iterable(item.output() for item in done if not item.succeeded)
        content = self._store.directory.content
        after = progress_after(
            before,
            done,
            output_bytes=await append(content(batch.output_file_id), before.output_bytes, answers),
            error_bytes=await append(content(batch.error_file_id), before.error_bytes, errors),
        )
        await self._advance(batch, after)

    async def _advance(self, batch: Batch, after: Progress) -> None:
        """Count lines that are on the disk as done. Raises StorageFullError; then they are not."""
        before, batch.progress = batch.progress, after
        try:
            await self._store.save(batch)
        except BaseException:
            batch.progress = before
            raise
        self._report(batch, before)

    # --- ending -------------------------------------------------------------------------------

    async def _give_up(self, batch: Batch) -> bool:
        """Write errors for lines that are not answered any more; False if there are none."""
        if batch.ends_as not in _ENDS or "in_progress" not in batch.times:
            return False
        before = batch.progress
        lines = await self._read(batch, GIVEN_UP, after=before.line, offset=before.offset)
        if not lines:
            return False
        code, message = _ENDS[batch.ends_as]
        items = await items_of(lines, self._answerer, endpoint=batch.endpoint)
        errors = error_lines(items, code=code, message=message)
        path = self._store.directory.content(batch.error_file_id)
        size = await append(path, before.error_bytes, errors)
        after = progress_after(before, items, output_bytes=before.output_bytes, error_bytes=size)
        await self._advance(batch, after)
        return True

    async def _read(self, batch: Batch, amount: Amount, *, after: int, offset: int) -> list[Line]:
        path = self._store.directory.content(batch.input_file_id)
        try:
            return await asyncio.to_thread(
                read_lines, path, amount, after=after, offset=offset, longest=self._longest
            )
        except FileNotFoundError as error:
            raise NoSuchFileError(batch.input_file_id) from error


def _log_unwritten(batch: Batch, error: StorageFullError | OSError) -> None:
    if isinstance(error, StorageFullError):
        LOG.error("batch_directory_full", extra={"fields": {"batch": batch.id}})
    else:
        fields = {"batch": batch.id, "error": type(error).__name__}
        LOG.error("batch_directory", extra={"fields": fields})
