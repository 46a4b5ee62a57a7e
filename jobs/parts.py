"""Input files, cut into numbered parts: the same files give the same parts, whoever cuts them and when."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from jobs.errors import JobError, UsageError, one_line
from jobs.places import Place, locate

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".txt": "text"}
TEXT_COLUMN = "text"  # what the one column of a text file is called
BLOCK = 1 << 20  # bytes looked through at a time
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one file."""

    number: int
    path: str
    format: str
    start: int  # in bytes; in rows of a Parquet file
    stop: int
    rows: int
    first_row: int  # of the whole input
    file_row: int  # of the file


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file and what tells it from another of that name."""

    path: str
    format: str
    size: int  # bytes
    mtime_ns: int | None  # None where the filesystem has none


def find_files(url: str) -> tuple[Place, list[InputFile]]:
    """The file at `url`, or all of a known format below it, by path.

    Raises UsageError when there is none.
    """
    place = locate(url)
    try:
        info = place.info()
        found = place.files(recursive=True) if info.type == fs.FileType.Directory else [info]
    except OSError as error:
        raise UsageError(f"{url} cannot be read: {one_line(error)}") from error
    if info.type == fs.FileType.NotFound:
        raise UsageError(f"{url} is not there")
    wanted = [info for info in found if _is_data(PurePosixPath(info.path))]
    if not wanted:
        raise UsageError(f"{url} holds no file whose name ends in {', '.join(FORMATS)}; compressed text is not read")
    return place, [_identity(info) for info in wanted]


def _is_data(path: PurePosixPath) -> bool:
    return path.suffix.lower() in FORMATS and not path.name.startswith(("_", "."))


def _identity(info: Any) -> InputFile:
    suffix = PurePosixPath(info.path).suffix.lower()
    return InputFile(info.path, FORMATS[suffix], info.size, info.mtime_ns)


def cut(place: Place, files: Sequence[InputFile], *, part_rows: int) -> Iterator[Part]:
    """Parts of `part_rows` rows; the last of each file has what is left. Memory does not grow with a file."""
    number = first_row = 0
    for file in files:
        file_row = 0
        for start, stop, rows in _SPANS[file.format](place, file, part_rows):
            yield Part(number, file.path, file.format, start, stop, rows, first_row + file_row, file_row)
            number, file_row = number + 1, file_row + rows
        first_row += file_row


Spans = Iterator[tuple[int, int, int]]  # start, stop, rows


def _row_spans(place: Place, file: InputFile, part_rows: int) -> Spans:
    with open_parquet(place, file.path) as parquet:
        total = parquet.metadata.num_rows
    for start in range(0, total, part_rows):
        stop = min(start + part_rows, total)
        yield start, stop, stop - start


def _line_spans(place: Place, file: InputFile, part_rows: int) -> Spans:
    """Whole records. In CSV the first is the header, and a line break between quotes ends nothing."""
    quotes = file.format == "csv"
    with place.filesystem.open_input_file(file.path) as stream:
        start = content_start(stream, header=quotes)
        stream.seek(start)
        last, count = start, 0
        for ends in _record_ends(stream, start, quotes=quotes):
            for end in ends[part_rows - 1 - count % part_rows :: part_rows]:
                yield start, int(end), part_rows
                start = int(end)
            count += len(ends)
            last = int(ends[-1]) if len(ends) else last
    if count % part_rows:
        yield start, last, count % part_rows


_SPANS: Mapping[str, Callable[[Place, InputFile, int], Spans]] = {
    "parquet": _row_spans,
    "jsonl": _line_spans,
    "csv": _line_spans,
    "text": _line_spans,
}


def content_start(stream: BinaryIO, *, header: bool) -> int:
    """The offset of the first record behind a byte order mark and, in CSV, the header."""
    stream.seek(0)
    start = len(BOM) if stream.read(len(BOM)) == BOM else 0
    if not header:
        return start
    stream.seek(start)
    first = next((ends for ends in _record_ends(stream, start, quotes=True) if len(ends)), None)
    return start if first is None else int(first[0])


def _record_ends(stream: BinaryIO, offset: int, *, quotes: bool) -> Iterator[NDArray[np.int64]]:
    """Offsets just behind each record, block by block; the last record may lack its line break."""
    end, n_quotes = offset, 0
    while block := stream.read(BLOCK):
        content = np.frombuffer(block, np.uint8)
        breaks = np.flatnonzero(content == ord("\n"))
        if quotes:  # RFC 4180: a break is inside quotes when an odd number of them stands before it
            marks = np.flatnonzero(content == ord('"'))
            breaks = breaks[(n_quotes + np.searchsorted(marks, breaks)) % 2 == 0]
            n_quotes += len(marks)
        ends = breaks + (offset + 1)
        offset += len(block)
        end = int(ends[-1]) if len(ends) else end
        yield ends
    if offset > end:
        yield np.array([offset])


def open_parquet(place: Place, path: str) -> pq.ParquetFile:
    """A Parquet file read in small pieces. Raises JobError when it is none."""
    try:
        return pq.ParquetFile(place.filesystem.open_input_file(path), buffer_size=BLOCK, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path} cannot be read as Parquet: {one_line(error)}") from error


def columns_of(place: Place, file: InputFile) -> dict[str, pa.DataType]:
    """Columns of a file and their types; what is not Parquet holds strings. Of JSONL, those of the first row."""
    if file.format == "parquet":
        with open_parquet(place, file.path) as parquet:
            schema = parquet.schema_arrow
        return dict(zip(schema.names, schema.types, strict=True))
    return dict.fromkeys(_names(place, file), pa.string())


def _names(place: Place, file: InputFile) -> Sequence[str]:
    if file.format == "text":
        return [TEXT_COLUMN]
    if file.format == "csv":
        return csv_header(place, file.path)
    with place.filesystem.open_input_file(file.path) as stream:
        stream.seek(content_start(stream, header=False))
        line = _first_line(stream)
    try:
        first = json.loads(line or b"{}")
    except ValueError:
        first = None
    if not isinstance(first, dict):
        raise UsageError(f"{file.path} is not JSONL: its first line is no JSON object")
    return list(first)


def _first_line(stream: BinaryIO) -> bytes:
    line = b""
    while (block := stream.read(BLOCK)) and b"\n" not in line:
        line += block
    return line.partition(b"\n")[0]


def csv_header(place: Place, path: str) -> list[str]:
    """Names of the columns of a CSV file."""
    with place.filesystem.open_input_file(path) as stream:
        stop = content_start(stream, header=True)
        stream.seek(0)
        text = stream.read(stop).removeprefix(BOM).decode("utf-8", "surrogateescape")
    return next(csv.reader(io.StringIO(text, newline="")), [])
