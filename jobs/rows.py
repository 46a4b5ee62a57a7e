"""The rows of one part, each either fit to be embedded or with the reason why not."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs.errors import JobError, one_line
from jobs.parts import TEXT_COLUMN, Part, csv_header, open_parquet
from jobs.places import Place

csv.field_size_limit(sys.maxsize)

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what."""

    text: str = TEXT_COLUMN
    id: str | None = None
    title: str | None = None
    task: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys(name for name in (self.text, self.id, self.title, self.task, *self.keep) if name))


@dataclass(frozen=True, slots=True)
class Row:
    """A row to embed. `number` counts from 0 through the whole input."""

    number: int
    text: str
    id: Any
    title: str | None
    task: str | None
    kept: Record


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that has no vector, and why; `file_row` counts from 0 in its file."""

    row: int
    file: str
    file_row: int
    id: Any
    reason: str


class RowError(Exception):
    """Why one row cannot be embedded. `id` is the row's, where it is known."""

    id: Any = None


def read(place: Place, part: Part, columns: Columns) -> tuple[list[Row], list[BadRow]]:
    """Rows of a part and the bad ones among them. Raises JobError when the file is not what it was or seems."""
    records = list(_READERS[part.format](place, part, columns.names))
    if len(records) != part.rows:
        raise JobError(
            f"{part.path} has {len(records)} records where {part.rows} lines were counted, from row {part.file_row} "
            'on: it changed, or a quote stands in a field without quotes (RFC 4180 wants "5"" pipe")'
        )
    rows: list[Row] = []
    bad: list[BadRow] = []
    for offset, record in enumerate(records):
        try:
            rows.append(_row(part.first_row + offset, record, columns))
        except RowError as error:
            bad.append(bad_row(part, part.first_row + offset, error))
    return rows, bad


def bad_row(part: Part, number: int, error: RowError) -> BadRow:
    """Where the row `number` of the whole input stands, and why it is bad."""
    return BadRow(number, part.path, number - part.first_row + part.file_row, error.id, str(error))


def _row(number: int, record: Record | RowError, columns: Columns) -> Row:
    if isinstance(record, RowError):
        raise record
    given = record.get(columns.id) if columns.id else None
    try:
        if columns.id and given is None:
            raise RowError(f"{columns.id} is null")
        for name in columns.names:
            _check_unicode(name, record.get(name))
        kept = {name: record.get(name) for name in columns.keep}
        title = _text(columns.title, record, optional=True)
        task = _text(columns.task, record, optional=True)
        return Row(number, _text(columns.text, record) or "", given, title, task, kept)
    except RowError as error:
        error.id = given
        raise


def _text(name: str | None, record: Record, *, optional: bool = False) -> str | None:
    value = record.get(name) if name else None
    if optional and value is None:
        return None
    if value is None:
        raise RowError(f"{name} is null")
    if not isinstance(value, str):
        raise RowError(f"{name} is no text")
    if not value and not optional:
        raise RowError(f"{name} is empty")
    return value


def _check_unicode(name: str, value: Any) -> None:
    """Bytes that are not UTF-8 were read as lone surrogates, which JSON can also spell out."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RowError(f"{name} is not valid UTF-8") from None


Records = Iterator[Record | RowError]


def _parquet(place: Place, part: Part, names: Sequence[str]) -> Records:
    """Rows of a part, from the row groups that hold them."""
    with open_parquet(place, part.path) as parquet:
        groups, skipped = _groups(parquet.metadata, part)
        wanted = part.rows
        for batch in parquet.iter_batches(part.rows, row_groups=groups, columns=list(names), use_threads=False):
            here = batch.slice(min(skipped, batch.num_rows), wanted)
            skipped, wanted = max(0, skipped - batch.num_rows), wanted - here.num_rows
            values = [_values(here.column(name)) for name in names]
            yield from (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))
            if not wanted:
                return


def _groups(metadata: Any, part: Part) -> tuple[list[int], int]:
    """Row groups that overlap a part, and how many rows of the first come before it."""
    groups, skipped, first = list[int](), 0, 0
    for group in range(metadata.num_row_groups):
        end = first + metadata.row_group(group).num_rows
        if first < part.stop and end > part.start:
            skipped = skipped if groups else part.start - first
            groups.append(group)
        first = end
    return groups, skipped


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):  # may hold bytes that are no UTF-8
        raw = column.cast(pa.large_binary()).to_pylist()
        return [value if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    values: list[Any] = column.to_pylist()
    return values


def _jsonl(place: Place, part: Part, names: Sequence[str]) -> Records:
    for line in _lines(place, part):
        try:
            record = json.loads(line)
        except ValueError as error:
            yield RowError("the line is empty" if not line.strip() else f"not JSON: {one_line(error)}")
            continue
        yield record if isinstance(record, dict) else RowError("not a JSON object")


def _text_lines(place: Place, part: Part, names: Sequence[str]) -> Records:
    yield from ({TEXT_COLUMN: line} for line in _lines(place, part))


def _csv(place: Place, part: Part, names: Sequence[str]) -> Records:
    header = csv_header(place, part.path)
    try:
        for record in csv.reader(io.StringIO(_content(place, part), newline=""), strict=True):
            if len(record) == len(header):
                yield dict(zip(header, record, strict=True))
            else:
                yield RowError(f"{len(record)} fields where the header has {len(header)}")
    except csv.Error as error:
        raise JobError(f"{part.path} is not CSV from row {part.file_row} on: {one_line(error)}") from error


def _lines(place: Place, part: Part) -> list[str]:
    lines = _content(place, part).removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _content(place: Place, part: Part) -> str:
    with place.filesystem.open_input_file(part.path) as file:
        content: bytes = file.read_at(part.stop - part.start, part.start)
    return content.decode("utf-8", "surrogateescape")


_READERS: Mapping[str, Callable[[Place, Part, Sequence[str]], Records]] = {
    "parquet": _parquet,
    "jsonl": _jsonl,
    "csv": _csv,
    "text": _text_lines,
}
