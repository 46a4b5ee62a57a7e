"""Input files split into numbered parts; the same files always give the same parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs.errors import JobError
from jobs.input import splitting
from jobs.input.files import InputFile
from jobs.input.parquet import open_parquet, rows_within
from jobs.input.text_format import csv_header
from jobs.location import Location

PART_BYTES = 16 << 20  # of the input; a part is read whole, so parts of long rows have fewer rows


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one file."""

    number: int
    file: InputFile
    start: int  # offset in bytes; of a Parquet file, in rows
    stop: int
    rows: int
    first_row: int  # number of its first row in the whole input
    file_row: int  # number of its first row in the file

    @property
    def path(self) -> str:
        return self.file.path


def split(
    location: Location, files: Sequence[InputFile], names: Sequence[str], *, part_rows: int
) -> Iterator[Part]:
    """Split files into parts, in memory that does not grow with a file.

    Args:
        location: where the files are.
        files: the input.
        names: the columns that are read.
        part_rows: rows of a part. Parts of long rows and the last part of a file have fewer.

    Raises:
        JobError: a file cannot be read in its format.
    """
    number = first_row = 0
    for file in files:
        file_row = 0
        for start, stop, rows in _SPANS[file.format](location, file, names, part_rows):
            yield Part(number, file, start, stop, rows, first_row + file_row, file_row)
            number = number + 1
            file_row = file_row + rows
        first_row += file_row


Spans = Iterator[tuple[int, int, int]]  # start, stop, rows


def _row_spans(location: Location, file: InputFile, names: Sequence[str], part_rows: int) -> Spans:
    with open_parquet(location, file.path, names) as parquet:
        total = parquet.metadata.num_rows
        rows = min(part_rows, rows_within(PART_BYTES, parquet, names))
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        yield start, stop, stop - start


def _line_spans(location: Location, file: InputFile, _: Sequence[str], part_rows: int) -> Spans:
    """Spans of whole records. CSV begins with a header, and line breaks in quotes end no record."""
    quotes = file.format == "csv"
    header = csv_header(location, file.path, file.text_format).stop if quotes else 0
    with location.filesystem.open_input_file(file.path) as stream:
        start = last = header or file.text_format.content_start(stream)
        rows = seen = 0
        for block in splitting.blocks(stream, start, quotes=quotes, unit=file.text_format.unit):
            for end in block.ends.tolist():
                if quotes and end - last > splitting.LONGEST:
                    raise _unclosed(file, seen + rows)
                if rows == part_rows or (rows and end - start > PART_BYTES):
                    yield start, last, rows
                    start = last
                    seen = seen + rows
                    rows = 0
                last = end
                rows = rows + 1
            if quotes and block.stop - last > splitting.LONGEST:
                raise _unclosed(file, seen + rows)
    if rows:
        yield start, last, rows


def _unclosed(file: InputFile, row: int) -> JobError:
    """In other formats a long row is a bad row; in CSV it may contain all rows after it."""
    return JobError(
        f"{file.path} has more than {splitting.LONGEST >> 20} MiB in row {row}, or a quote there "
        "that is not closed: close the quote, or make the row shorter"
    )


_SPANS: Mapping[str, Callable[[Location, InputFile, Sequence[str], int], Spans]] = {
    "parquet": _row_spans,
    "jsonl": _line_spans,
    "csv": _line_spans,
    "text": _line_spans,
}
