"""Input files, cut into numbered parts: the same files give the same parts, whoever cuts them and when."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from jobs.errors import JobError, UsageError, one_line
from jobs.places import Place, locate
from jobs.records import BLOCK, content_start, csv_header, record_ends

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
}
TEXT_COLUMN = "text"  # what the one column of a text file is called
PART_BYTES = (
    64 << 20
)  # of a text file; a part is read whole, and a quote that nothing closes never ends


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
        raise UsageError(
            f"{url} holds no file whose name ends in {', '.join(FORMATS)}; compressed text is not read"
        )
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
            yield Part(
                number, file.path, file.format, start, stop, rows, first_row + file_row, file_row
            )
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
    header = csv_header(place, file.path).stop if quotes else 0
    with place.filesystem.open_input_file(file.path) as stream:
        start = last = header or content_start(stream)
        stream.seek(start)
        count = 0
        for ends in record_ends(stream, start, quotes=quotes):
            for end in ends[part_rows - 1 - count % part_rows :: part_rows]:
                yield start, int(end), part_rows
                start = int(end)
            count += len(ends)
            last = int(ends[-1]) if len(ends) else last
            if stream.tell() - start > PART_BYTES:
                raise _too_long(file, count)
    if count % part_rows:
        yield start, last, count % part_rows


def _too_long(file: InputFile, row: int) -> JobError:
    quote = ", or a quote that nothing closes stands there" if file.format == "csv" else ""
    return JobError(
        f"{file.path} has more than {PART_BYTES >> 20} MiB in one part, up to row {row} or in it: give a smaller "
        f"--part-rows{quote}"
    )


_SPANS: Mapping[str, Callable[[Place, InputFile, int], Spans]] = {
    "parquet": _row_spans,
    "jsonl": _line_spans,
    "csv": _line_spans,
    "text": _line_spans,
}


def open_parquet(place: Place, path: str) -> pq.ParquetFile:
    """A Parquet file read in small pieces. Raises JobError when it is none."""
    try:
        return pq.ParquetFile(
            place.filesystem.open_input_file(path), buffer_size=BLOCK, pre_buffer=False
        )
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path} cannot be read as Parquet: {one_line(error)}") from error
