"""The directory of all files and batches: its parts, its lock, and what a start finds in it.

Every method blocks, so call it in a thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from batches.durable import UNFINISHED, open_at, remove, size_of, sync, write_whole
from batches.ids import is_batch_id, is_file_id
from batches.records import Batch, StoredFile, read_batch, read_file, record_bytes
from errors import ConfigurationError

LOG = logging.getLogger("embedding_api")
PRIVATE = 0o700
_OWN = frozenset({"files", "records", "lock", "lost+found"})  # the last is of a disk of its own
_JSON = ".json"
Record = TypeVar("Record", StoredFile, Batch)


class Directory:
    """Contents of files under `files/`, and a record of each file and batch under `records/`.

    A content without a record is not complete, or is being written by a batch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = path / "files"
        self._records = path / "records"
        self._lock: int | None = None
        self._unreadable = False  # whether a record could not be read, nor what it names

    def check(self) -> None:
        """Check that the directory can be used, and change nothing.

        Raises:
            ConfigurationError: it cannot be made or written, or has files of others.
        """
        fault = self._fault()
        if fault:
            raise ConfigurationError(
                f"BATCH_DIRECTORY: {str(self.path)[:64]!r} {fault}. Name an empty directory on a "
                "local disk that the service's user may write, or one to be made in such a "
                "directory"
            )

    def _fault(self) -> str | None:
        """Why the directory cannot be used; None if it can."""
        try:
            if not self.path.exists():
                if not self.path.parent.is_dir():
                    return "is in a directory that does not exist"
                usable = os.access(self.path.parent, os.W_OK | os.X_OK)
            elif {*os.listdir(self.path)} - _OWN:
                return "has other files in it"
            else:
                usable = os.access(self.path, os.W_OK | os.X_OK)
        except OSError:
            usable = False
        return None if usable else "cannot be written"

    def prepare(self) -> None:
        """Make what is missing, readable by this user of the machine alone."""
        self.path.mkdir(mode=PRIVATE, exist_ok=True)
        for directory in (self._files, self._records):
            directory.mkdir(mode=PRIVATE, exist_ok=True)
            directory.chmod(PRIVATE)

    def lock(self) -> bool:
        """Whether this process has the directory for itself now."""
        if self._lock is None:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def content(self, file_id: str) -> Path:
        """Where the content of a file is, or is to be. Raises ValueError for no id."""
        if not is_file_id(file_id):
            raise ValueError("not the id of a file")
        return self._files / file_id

    def trim(self, file_id: str, n_bytes: int) -> None:
        """Remove what a crash left after the bytes of a content that count.

        Raises:
            ContentLostError: it has fewer.
            StorageFullError: the disk is full.
        """
        path = self.content(file_id)
        if n_bytes:
            with open_at(path, n_bytes) as file:
                sync(file)
        else:
            path.unlink(missing_ok=True)

    def intact(self, file_id: str, n_bytes: int) -> int:
        """How many of the first bytes of a content are there."""
        return min(n_bytes, size_of(self.content(file_id)))

    def keep(self, record: StoredFile | Batch) -> None:
        """Write a record. Raises StorageFullError; then the record is as it was."""
        write_whole(self._record(record.id), record_bytes(record))

    def forget(self, record_id: str) -> None:
        """Remove a record, and the content of a file."""
        remove(self._record(record_id))
        if is_file_id(record_id):
            remove(self.content(record_id))

    def files(self) -> list[StoredFile]:
        """Every complete file, the oldest first."""
        found = self._read(is_file_id, read_file)
        return [file for file in found if self.content(file.id).exists()]

    def batches(self) -> list[Batch]:
        """Every batch, the oldest first."""
        return self._read(is_batch_id, read_batch)

    def clean(self, known: Iterable[str]) -> None:
        """Remove what a crash left: unfinished files, and contents and records of no `known` id.

        Where a record could not be read, only unfinished files are removed: a content without a
        record may be one that it names, which somebody may be able to restore.
        """
        kept = frozenset(known)
        for path in (*self._files.iterdir(), *self._records.iterdir()):
            name = path.name.removesuffix(_JSON)
            unnamed = is_file_id(name) and name not in kept and not self._unreadable
            if unnamed or path.name.endswith(UNFINISHED):
                path.unlink(missing_ok=True)

    def _record(self, record_id: str) -> Path:
        if not (is_file_id(record_id) or is_batch_id(record_id)):
            raise ValueError("not the id of a file or a batch")
        return self._records / f"{record_id}{_JSON}"

    def _read(self, is_one: Callable[[str], bool], read: Callable[[bytes], Record]) -> list[Record]:
        records = []
        for path in [path for path in self._records.glob(f"*{_JSON}") if is_one(path.stem)]:
            try:
                record = read(path.read_bytes())
                if record.id != path.stem:
                    raise ValueError("the record of another")
                records.append(record)
            except (ValueError, OSError) as error:
                self._unreadable = True
                LOG.error(
                    "batch_record_unreadable",
                    extra={"fields": {"record": path.name, "reason": type(error).__name__}},
                )
        return sorted(records, key=lambda record: (record.created_at, record.id))
