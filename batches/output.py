"""Appends to the files of answers and errors, in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from batches.durable import PIECE, open_at, space_needed, sync, sync_directory, write


async def append(path: Path, size: int, pieces: Iterable[bytes]) -> int:
    """Add to a file, on the disk. What follows `size` is overwritten: a crash left it.

    Args:
        path: of the file, which is made if there is none.
        size: bytes of it that count.
        pieces: to add. They are made here, a few at a time.

    Returns:
        Its new size.

    Raises:
        StorageFullError: the disk is full; the first `size` bytes are as they were.
    """
    blocks = _blocks(pieces)
    first = next(blocks, b"")
    if not first:
        return size
    file = await asyncio.to_thread(open_at, path, size)
    end = size
    try:
        for block in chain([first], blocks):
            await asyncio.to_thread(write, file, block)
            end += len(block)
        await asyncio.to_thread(_end, file, None if size else path.parent)
    finally:
        with suppress(OSError):  # a full disk, of which `write` has told
            file.close()
    return end


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= PIECE:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _end(file: BinaryIO, directory: Path | None) -> None:
    with space_needed():
        with file:
            sync(file)
        if directory is not None:
            sync_directory(directory)
