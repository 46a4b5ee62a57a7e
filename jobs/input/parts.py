"""Input files, cut into numbered parts: the same files always give the same parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs.errors import JobError
from jobs.input import splitting
from jobs.input.files import InputFile
from jobs.input.parquet import open_parquet, rows_within
from jobs.input.text_format import csv_header
from jobs.places import Place

PART_BYTES = 16 << 20  # of the input; a part with more has fewer rows, since it is read whole


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one file."""

    number: int
    file: InputFile
    start: int  # in bytes; in rows of a Parquet file
    stop: int
    rows: int
    first_row: int  # of the whole input
    file_row: int  # of the file

    @property
    def path(self) -> str:
        return self.file.path


def cut(
    place: Place, files: Sequence[InputFile], names: Sequence[str], *, part_rows: int
) -> Iterator[Part]:
    """Parts of `part_rows` rows, or fewer of long ones; the last of each file has what is left.

    `names` are the columns that are read. Memory does not grow with a file.
    """
    number = first_row = 0
    for file in files:
        file_row = 0
        for start, stop, rows in _SPANS[file.format](place, file, names, part_rows):
            yield Part(number, file, start, stop, rows, first_row + file_row, file_row)
            number, file_row = number + 1, file_row + rows
        first_row += file_row


Spans = Iterator[tuple[int, int, int]]  # start, stop, rows


def _row_spans(place: Place, file: InputFile, names: Sequence[str], part_rows: int) -> Spans:
    with open_parquet(place, file.path, names) as parquet:
        total = parquet.metadata.num_rows
        rows = min(part_rows, rows_within(PART_BYTES, parquet, names))
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        yield start, stop, stop - start


def _line_spans(place: Place, file: InputFile, _: Sequence[str], part_rows: int) -> Spans:
    """Whole records. In CSV the first is the header, and a line break between quotes ends nothing."""
    quotes = file.format == "csv"
    header = csv_header(place, file.path, file.dialect).stop if quotes else 0
    with place.filesystem.open_input_file(file.path) as stream:
        start = last = header or file.dialect.content_start(stream)
        rows = seen = 0
        for block in splitting.blocks(stream, start, quotes=quotes, unit=file.dialect.unit):
            for end in block.ends.tolist():
                if quotes and end - last > splitting.LONGEST:
                    raise _unclosed(file, seen + rows)
                if rows == part_rows or (rows and end - start > PART_BYTES):
                    yield start, last, rows
                    start, seen, rows = last, seen + rows, 0
                last, rows = end, rows + 1
            if quotes and block.stop - last > splitting.LONGEST:
                raise _unclosed(file, seen + rows)
    if rows:
        yield start, last, rows


def _unclosed(file: InputFile, row: int) -> JobError:
    """A row of other formats that is too long is a bad row; this one may have swallowed the rest."""
    return JobError(
        f"{file.path} has more than {splitting.LONGEST >> 20} MiB in row {row}, or a quote there that "
        "nothing closes: close the quote, or make the row shorter"
    )


_SPANS: Mapping[str, Callable[[Place, InputFile, Sequence[str], int], Spans]] = {
    "parquet": _row_spans,
    "jsonl": _line_spans,
    "csv": _line_spans,
    "text": _line_spans,
}
