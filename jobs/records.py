"""Text files as bytes: where their records begin and end, found without reading them into memory."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from jobs.errors import UsageError, one_line
from jobs.places import Place

BLOCK = 1 << 20  # bytes looked through at a time
LONGEST_HEADER = 1 << 20  # bytes; what is longer is no header but a quote that nothing closes
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """Names of the columns, and the offset of the first record behind them."""

    names: list[str]
    stop: int


def content_start(stream: BinaryIO) -> int:
    """The offset of what follows a byte order mark."""
    stream.seek(0)
    return len(BOM) if stream.read(len(BOM)) == BOM else 0


def csv_header(place: Place, path: str) -> CsvHeader:
    """The first record of a CSV file.

    Raises UsageError when it is not exactly one record: rows that it swallowed would be lost without a word.
    """
    with place.filesystem.open_input_file(path) as stream:
        start = content_start(stream)
        stream.seek(start)
        block = stream.read(LONGEST_HEADER)
    ends = next(record_ends(io.BytesIO(block), 0, quotes=True, size=LONGEST_HEADER), np.array([0]))
    stop = int(ends[0]) if len(ends) else len(block)
    try:
        if stop == LONGEST_HEADER:
            raise csv.Error(f"it does not end in {LONGEST_HEADER:,} bytes")
        text = block[:stop].decode("utf-8", "surrogateescape")
        records = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if len(records) > 1:
            raise csv.Error(f"it would swallow {len(records) - 1} lines behind it")
    except csv.Error as error:
        raise UsageError(
            f"{path} has no header that can be read ({one_line(error)}): lines end in a line feed, and a quote in a "
            'name wants quotes around it ("size ("")")'
        ) from error
    return CsvHeader(records[0] if records else [], start + stop)


def record_ends(
    stream: BinaryIO, offset: int, *, quotes: bool, size: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Offsets just behind each record, block by block of `size` bytes; the last record may lack its line break."""
    end, n_quotes = offset, 0
    while chunk := stream.read(size or BLOCK):
        content = np.frombuffer(chunk, np.uint8)
        breaks = np.flatnonzero(content == ord("\n"))
        if quotes:  # RFC 4180: a break is inside quotes when an odd number of them stands before it
            marks = np.flatnonzero(content == ord('"'))
            breaks = breaks[(n_quotes + np.searchsorted(marks, breaks)) % 2 == 0]
            n_quotes += len(marks)
        ends = breaks + (offset + 1)
        offset += len(chunk)
        end = int(ends[-1]) if len(ends) else end
        yield ends
    if offset > end:
        yield np.array([offset])
