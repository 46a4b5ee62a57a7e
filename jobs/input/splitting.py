"""Split a text file into records (lines, or CSV records), without reading it into memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # bytes read at a time
# Bytes of one record: bounds the memory of a row before it is parsed. Parsed JSON of empty lists
# takes 24 times the bytes of its text.
LONGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive bytes of a file, and where records end in them."""

    start: int  # offset of its first byte
    content: bytes
    ends: NDArray[np.int64]  # offsets just behind each record

    @property
    def stop(self) -> int:
        return self.start + len(self.content)


def blocks(
    stream: BinaryIO, start: int, stop: int | None = None, *, quotes: bool, unit: str = "u1"
) -> Iterator[Block]:
    """Read a file block by block and find the ends of its records.

    Args:
        stream: the file.
        start: offset of the first record.
        stop: where to end; None for the end of the file.
        quotes: a line break between quotes ends no record (RFC 4180).
        unit: the numpy type of one line break. The last record may have none.
    """
    stream.seek(start)
    offset = end = start
    n_quotes = 0
    size = np.dtype(unit).itemsize
    while content := stream.read(BLOCK if stop is None else min(BLOCK, stop - offset)):
        units = np.frombuffer(content, unit, len(content) // size)
        breaks = np.flatnonzero(units == ord("\n"))
        if quotes:  # a line break is inside quotes when the number of quotes before it is odd
            marks = np.flatnonzero(units == ord('"'))
            breaks = breaks[(n_quotes + np.searchsorted(marks, breaks)) % 2 == 0]
            n_quotes += len(marks)
        ends = (breaks + 1) * size + offset
        yield Block(offset, content, ends)
        offset += len(content)
        end = int(ends[-1]) if len(ends) else end
    if offset > end:
        yield Block(offset, b"", np.array([offset]))


def records(
    stream: BinaryIO, start: int, stop: int | None = None, *, quotes: bool, unit: str = "u1"
) -> Iterator[bytes | None]:
    """Each record with its line break; None for a record of more than LONGEST bytes."""
    held = bytearray()
    length = 0  # of the current record, including bytes that were not held
    for block in blocks(stream, start, stop, quotes=quotes, unit=unit):
        begin = 0
        for end in (block.ends - block.start).tolist():
            length += end - begin
            fits = length <= LONGEST
            yield bytes(held) + block.content[begin:end] if fits else None
            held.clear()
            begin = end
            length = 0
        length += len(block.content) - begin
        if length <= LONGEST:
            held += block.content[begin:]
        else:
            held.clear()
