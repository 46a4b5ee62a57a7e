"""Files of users: uploaded, listed, read, deleted, and deleted after a time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batches.directory import Directory
from batches.durable import PIECE, create, discard, publish, write
from batches.errors import FileTooLargeError, NoSuchFileError
from batches.ids import new_file_id
from batches.records import StoredFile
from batches.space import LEAST, Space, counted


class Files:
    """Every complete file; another user's is not there. Changes are on the disk when they return.

    Args:
        directory: where they are.
        space: what they may take.
        max_bytes: of one uploaded file.
    """

    def __init__(self, directory: Directory, space: Space, *, max_bytes: int) -> None:
        self._directory = directory
        self._space = space
        self.max_bytes = max_bytes
        self._of: defaultdict[str, dict[str, StoredFile]] = defaultdict(dict)  # oldest first
        self._readers: Counter[str] = Counter()  # of each file

    def load(self, files: list[StoredFile]) -> None:
        """Take over what a start has found."""
        for file in files:
            self._add(file)

    def of(self, user_id: str) -> list[StoredFile]:
        """A user's files, the oldest first."""
        return list(self._of[user_id].values()) if user_id in self._of else []

    def get(self, user_id: str, file_id: str) -> StoredFile:
        """A user's file. Raises NoSuchFileError."""
        file = self._of[user_id].get(file_id) if user_id in self._of else None
        if file is None:
            raise NoSuchFileError(file_id)
        return file

    def __iter__(self) -> Iterator[StoredFile]:
        return (file for files in self._of.values() for file in files.values())

    async def upload(self, user_id: str) -> Upload:
        """Begin a file.

        Raises:
            UserStorageFullError: the user's files take all that they may.
            StorageFullError: all files together do, or the disk is full.
        """
        self._space.reserve(user_id, LEAST)
        file_id = new_file_id()
        try:
            file = await asyncio.to_thread(create, self._directory.content(file_id))
        except BaseException:
            self._space.add(user_id, -LEAST)
            raise
        return Upload(self, file_id, user_id, file)

    async def keep(self, file: StoredFile) -> None:
        """Add a file whose content is on the disk. Raises StorageFullError."""
        await asyncio.to_thread(self._directory.keep, file)
        if file.id not in self._of[file.user_id]:
            self._add(file)

    async def delete(self, file: StoredFile) -> None:
        """Delete a file and its record. While somebody reads it, it still counts."""
        found = self._of[file.user_id].pop(file.id, None) is not None
        if found and not self._readers[file.id]:
            self._space.add(file.user_id, -counted(file.n_bytes))
        if not self._of[file.user_id]:
            del self._of[file.user_id]
        await asyncio.to_thread(self._directory.forget, file.id)

    @contextmanager
    def reading(self, file: StoredFile) -> Iterator[Path]:
        """The content of a file, which takes space until it is read even if it is deleted."""
        self._readers[file.id] += 1
        try:
            yield self._directory.content(file.id)
        finally:
            self._readers[file.id] -= 1
            if not self._readers[file.id]:
                del self._readers[file.id]
                if file.id not in self._of.get(file.user_id, ()):
                    self._space.add(file.user_id, -counted(file.n_bytes))

    def _add(self, file: StoredFile) -> None:
        self._of[file.user_id][file.id] = file
        self._space.add(file.user_id, counted(file.n_bytes))


class Upload:
    """A file that is being written. What it takes is counted before it is written."""

    def __init__(self, files: Files, file_id: str, user_id: str, file: BinaryIO) -> None:
        self._files = files
        self._id, self._user_id = file_id, user_id
        self._file = file
        self._waiting = bytearray()
        self._reserved = LEAST
        self._n_bytes = 0
        self._open = True

    async def write(self, piece: bytes) -> None:
        """Add to the file.

        Raises:
            FileTooLargeError: it is larger than a file may be.
            UserStorageFullError: the user's files would take more than they may.
            StorageFullError: all files together would, or the disk is full.
        """
        self._n_bytes += len(piece)
        if self._n_bytes > self._files.max_bytes:
            raise FileTooLargeError(self._files.max_bytes)
        if (more := counted(self._n_bytes) - self._reserved) > 0:
            self._files._space.reserve(self._user_id, more)
            self._reserved += more
        self._waiting += piece
        if len(self._waiting) >= PIECE:
            await self._flush()

    async def complete(
        self, *, filename: str, purpose: str, created_at: int, expires_at: int
    ) -> StoredFile:
        """The file, on the disk. Raises StorageFullError; `discard` it then."""
        await self._flush()
        path = self._files._directory.content(self._id)
        await asyncio.to_thread(publish, path, self._file)
        file = StoredFile(
            self._id, self._user_id, filename, self._n_bytes, purpose, created_at, expires_at
        )
        await self._files.keep(file)
        self._close()
        return file

    def discard(self) -> None:
        """Remove what was written, unless the file is complete."""
        if self._open:
            self._close()
            path = self._files._directory.content(self._id)
            discard(path, self._file)
            path.unlink(missing_ok=True)

    def _close(self) -> None:
        """From now on the complete file counts, or nothing."""
        self._open = False
        self._files._space.add(self._user_id, -self._reserved)

    async def _flush(self) -> None:
        content, self._waiting = bytes(self._waiting), bytearray()
        await asyncio.to_thread(write, self._file, content)
