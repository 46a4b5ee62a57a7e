"""Records of a text file as bytes: where they begin and end, without reading the file into memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # bytes looked through at a time
# Bytes of one record: what a row may take of memory before anybody has looked at it. JSON of empty
# lists takes 24 times its bytes once it is parsed.
LONGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive bytes of a file, and the records that end in them."""

    start: int  # offset of its first byte
    content: bytes
    ends: NDArray[np.int64]  # offsets just behind each record

    @property
    def stop(self) -> int:
        return self.start + len(self.content)


def blocks(
    stream: BinaryIO, start: int, stop: int | None = None, *, quotes: bool, unit: str = "u1"
) -> Iterator[Block]:
    """Blocks from `start`, which begins a record, to `stop` or the end of the file.

    With `quotes` a line break between quotes ends no record (RFC 4180). `unit` is the numpy type of
    one line break. The last record may lack its own.
    """
    stream.seek(start)
    offset = end = start
    n_quotes = 0
    size = np.dtype(unit).itemsize
    while content := stream.read(BLOCK if stop is None else min(BLOCK, stop - offset)):
        units = np.frombuffer(content, unit, len(content) // size)
        breaks = np.flatnonzero(units == ord("\n"))
        if quotes:  # a break is inside quotes when an odd number of them stands before it
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
    """Each record with its line break; None for one of more than LONGEST bytes."""
    held = bytearray()
    length = 0  # of the record that has begun, also of what is not held
    for block in blocks(stream, start, stop, quotes=quotes, unit=unit):
        begin = 0
        for end in (block.ends - block.start).tolist():
            length += end - begin
            fits = length <= LONGEST
            yield bytes(held) + block.content[begin:end] if fits else None
            held.clear()
            begin, length = end, 0
        length += len(block.content) - begin
        if length <= LONGEST:
            held += block.content[begin:]
        else:
            held.clear()
