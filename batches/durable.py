"""Files that survive a crash. Every function blocks, so call it in a thread."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from batches.errors import ContentLostError, StorageFullError

UNFINISHED = ".unfinished"  # suffix of a file that is being written
PIECE = 262_144  # bytes that are written at once
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def space_needed() -> Iterator[None]:
    """Raises StorageFullError where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError from error
        raise


def create(path: Path) -> BinaryIO:
    """A new file that only this user of the machine can read, at `path` with UNFINISHED.

    Raises:
        StorageFullError: the disk is full.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with space_needed():
        return os.fdopen(os.open(_unfinished(path), flags, 0o600), "wb")


def publish(path: Path, file: BinaryIO) -> None:
    """Give a file of `create` its name, once its content is on the disk; closes it.

    Raises:
        StorageFullError: the disk is full.
    """
    with space_needed():
        with file:
            sync(file)
        os.replace(_unfinished(path), path)
        sync_directory(path.parent)


def discard(path: Path, file: BinaryIO) -> None:
    """Remove a file of `create`."""
    with suppress(OSError):
        file.close()
    _unfinished(path).unlink(missing_ok=True)


def write(file: BinaryIO, content: bytes) -> None:
    """Add to a file. Raises StorageFullError where the disk is full."""
    with space_needed():
        file.write(content)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file: after a crash it has the old content or the new one.

    Raises:
        StorageFullError: the disk is full; the old content is there.
    """
    file = create(path)
    try:
        write(file, content)
        publish(path, file)
    except BaseException:
        discard(path, file)
        raise


def remove(path: Path) -> None:
    """Remove a file, so that it is gone after a crash too."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def open_at(path: Path, size: int) -> BinaryIO:
    """Open a file for more, without what follows its first `size` bytes.

    Raises:
        ContentLostError: it has fewer bytes. Zeros in their place would be taken for content.
        StorageFullError: the disk is full.
    """
    if size_of(path) < size:
        raise ContentLostError
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with space_needed():
        file = os.fdopen(os.open(path, flags, 0o600), "r+b")
        file.truncate(size)
    file.seek(size)
    return file


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sync(file: BinaryIO) -> None:
    """Write what was written to a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Write the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)
