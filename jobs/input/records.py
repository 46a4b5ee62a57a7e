"""Records of the parts of each format; what cannot be read of one of them is the error of that row."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from jobs.errors import JobError, RowError, one_line
from jobs.input import splitting
from jobs.input.files import TEXT_COLUMN, InputFile
from jobs.input.parquet import batches, open_parquet, python_bytes
from jobs.input.parts import Part
from jobs.input.text_format import CsvHeader, csv_header, parse_csv
from jobs.places import Place

Record: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Iterator[Record | RowError]

TOO_LONG = f"the row has more than {splitting.LONGEST >> 20} MiB"
DECODED = 64 << 20  # bytes of a part of Parquet in memory; a file of a few bytes may hold more


class Records:
    """Parts of any format -> records with the columns `names`."""

    def __init__(self, place: Place, names: Sequence[str]) -> None:
        self._place = place
        self._header: tuple[str, CsvHeader] | None = None  # of the file that was read last
        parquet = ParquetRecords(place, names)
        self._readers = {
            "parquet": parquet.read,
            "jsonl": self._jsonl,
            "csv": self._csv,
            "text": self._text,
        }

    def read(self, part: Part) -> Found:
        """One per row, in their order."""
        return self._readers[part.file.format](part)

    def _jsonl(self, part: Part) -> Found:
        for line in self._lines(part):
            yield line if isinstance(line, RowError) else _object(line)

    def _text(self, part: Part) -> Found:
        for line in self._lines(part):
            yield line if isinstance(line, RowError) else {TEXT_COLUMN: line}

    def _csv(self, part: Part) -> Found:
        names = self._csv_header(part.file).names
        delimiter = part.file.dialect.delimiter
        for offset, text in enumerate(self._texts(part, quotes=True)):
            if isinstance(text, RowError):
                yield text
                continue
            [fields] = _csv_records(text, delimiter, part, offset)
            if len(fields) == len(names):
                yield dict(zip(names, fields, strict=True))
            else:
                yield RowError(f"{len(fields)} fields where the header has {len(names)}")

    def _csv_header(self, file: InputFile) -> CsvHeader:
        if self._header is None or self._header[0] != file.path:
            self._header = file.path, csv_header(self._place, file.path, file.dialect)
        return self._header[1]

    def _lines(self, part: Part) -> Iterator[str | RowError]:
        for text in self._texts(part, quotes=False):
            yield text if isinstance(text, RowError) else text.removesuffix("\n").removesuffix("\r")

    def _texts(self, part: Part, *, quotes: bool) -> Iterator[str | RowError]:
        dialect = part.file.dialect
        with self._place.filesystem.open_input_file(part.path) as stream:
            span = splitting.records(
                stream, part.start, part.stop, quotes=quotes, unit=dialect.unit
            )
            for record in span:
                try:
                    yield RowError(TOO_LONG) if record is None else dialect.decode(record)
                except UnicodeDecodeError:
                    yield RowError(f"the row is not valid {dialect.encoding.upper()}")


def _object(line: str) -> Record | RowError:
    try:
        record = json.loads(line)
    except ValueError as error:
        if not line.strip():
            return RowError("the line is empty")
        return RowError(f"not JSON: {one_line(error)}")
    except RecursionError:
        return RowError("not JSON that can be read: it is nested too deeply")
    return record if isinstance(record, dict) else RowError("not a JSON object")


def _csv_records(text: str, delimiter: str, part: Part, offset: int) -> list[list[str]]:
    """The one record of `text`. Raises JobError when it reads as another number of them."""
    where = f"{part.path} is not CSV in row {part.file_row + offset}"
    try:
        records = parse_csv(text, delimiter)
    except csv.Error as error:
        raise JobError(f"{where}: {one_line(error)}") from error
    if len(records) != 1:
        raise JobError(
            f"{where}: it reads as {len(records)} rows, since a quote stands in a field without "
            'quotes (RFC 4180 wants "5"" pipe")'
        )
    return records


class ParquetRecords:
    """Rows of Parquet files, read forward: a row group is decoded once, not once for every part in it."""

    def __init__(self, place: Place, names: Sequence[str]) -> None:
        self._place, self._names = place, list(names)
        self._path: str | None = None
        self._ends = np.empty(0, np.int64)  # of the row groups, in rows
        self._batches: Iterator[Any] = iter(())  # of pyarrow.RecordBatch
        self._left: Any = None  # what a batch has beyond the last part
        self._next = 0  # row of the file that comes next

    def read(self, part: Part) -> Found:
        """Rows of a part; reads on from the last one where both lie in one row group."""
        if not self._is_ahead(part):
            self._open(part)
        for _ in self._take(part.start - self._next):
            pass
        size = 0
        for batch in self._take(part.rows):
            size += sum(python_bytes(batch.column(name)) for name in self._names)
            if size > DECODED:
                raise JobError(
                    f"{part.path} has more than {DECODED >> 20} MiB in the {part.rows} rows from "
                    f"{part.file_row} on: give a smaller --part-rows, and an OUTPUT of its own"
                )
            values = [_values(name, batch.column(name)) for name in self._names]
            for row in zip(*values, strict=True):
                wrong = next((value for value in row if isinstance(value, RowError)), None)
                yield wrong or dict(zip(self._names, row, strict=True))

    def _is_ahead(self, part: Part) -> bool:
        if part.path != self._path or part.start < self._next:
            return False
        return part.start == self._next or self._group(part.start) == self._group(self._next)

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self._ends, row, side="right"))

    def _open(self, part: Part) -> None:
        parquet = open_parquet(self._place, part.path, self._names)
        metadata = parquet.metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(rows)
        first = self._group(part.start)
        self._batches = batches(
            self._place, part.path, parquet, self._names, first=first, rows=part.rows
        )
        self._path, self._left = part.path, None
        self._next = int(self._ends[first - 1]) if first else 0

    def _take(self, count: int) -> Iterator[Any]:
        """The next `count` rows, or what is left of them, in batches."""
        while count:
            batch = self._left if self._left is not None else next(self._batches, None)
            if batch is None:
                return
            here = batch.slice(0, count)
            self._left = batch.slice(here.num_rows) if here.num_rows < batch.num_rows else None
            self._next, count = self._next + here.num_rows, count - here.num_rows
            yield here


def _values(name: str, column: pa.Array) -> list[Any]:
    """Python objects; a string that the column repeats is one object."""
    if pa.types.is_dictionary(column.type):
        distinct = [*_values(name, column.dictionary), None]
        return [distinct[-1 if index is None else index] for index in column.indices.to_pylist()]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()  # it may hold bytes that are no UTF-8
        return [None if value is None else _string(value) for value in raw]
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # inside a list or a struct
        values = [_value(name, value) for value in column]
    return values


def _string(content: bytes) -> str | RowError:
    if len(content) > splitting.LONGEST:
        return RowError(TOO_LONG)
    return content.decode("utf-8", "surrogateescape")


def _value(name: str, scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return RowError(f"{name} is not valid UTF-8")
