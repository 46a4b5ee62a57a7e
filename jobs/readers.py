"""Records of the parts of each format; what cannot be read of one of them is the error of that row."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from jobs.errors import JobError, RowError, one_line
from jobs.parts import TEXT_COLUMN, Part, open_parquet
from jobs.places import Place
from jobs.records import csv_header

csv.field_size_limit(sys.maxsize)

Record: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Iterator[Record | RowError]


class Records:
    """Parts of any format -> records with the columns `names`."""

    def __init__(self, place: Place, names: Sequence[str]) -> None:
        self._place = place
        parquet = ParquetRecords(place, names)
        self._readers = {
            "parquet": parquet.of,
            "jsonl": self._jsonl,
            "csv": self._csv,
            "text": self._text,
        }

    def of(self, part: Part) -> Found:
        """One a row, in their order."""
        return self._readers[part.format](part)

    def _jsonl(self, part: Part) -> Found:
        for line in self._lines(part):
            try:
                record = json.loads(line)
            except ValueError as error:
                yield RowError(
                    "the line is empty" if not line.strip() else f"not JSON: {one_line(error)}"
                )
            except RecursionError:
                yield RowError("not JSON that can be read: it is nested too deeply")
            else:
                yield record if isinstance(record, dict) else RowError("not a JSON object")

    def _text(self, part: Part) -> Found:
        yield from ({TEXT_COLUMN: line} for line in self._lines(part))

    def _csv(self, part: Part) -> Found:
        names = csv_header(self._place, part.path).names
        try:
            for record in csv.reader(io.StringIO(self._content(part), newline=""), strict=True):
                if len(record) == len(names):
                    yield dict(zip(names, record, strict=True))
                else:
                    yield RowError(f"{len(record)} fields where the header has {len(names)}")
        except csv.Error as error:
            raise JobError(
                f"{part.path} is not CSV from row {part.file_row} on: {one_line(error)}"
            ) from error

    def _lines(self, part: Part) -> list[str]:
        lines = self._content(part).removesuffix("\n").split("\n")
        return [line.removesuffix("\r") for line in lines]

    def _content(self, part: Part) -> str:
        with self._place.filesystem.open_input_file(part.path) as file:
            content: bytes = file.read_at(part.stop - part.start, part.start)
        return content.decode("utf-8", "surrogateescape")


class ParquetRecords:
    """Rows of Parquet files, forward: a row group is decoded once, not from its start for every part in it."""

    def __init__(self, place: Place, names: Sequence[str]) -> None:
        self._place, self._names = place, list(names)
        self._path: str | None = None
        self._ends = np.empty(0, np.int64)  # of the row groups, in rows
        self._batches: Iterator[Any] = iter(())  # of pyarrow.RecordBatch
        self._left: Any = None  # what a batch has beyond the last part
        self._next = 0  # row of the file that comes next

    def of(self, part: Part) -> Found:
        """Rows of a part, from where the last one ended if that is not further away than their row group's start."""
        if not self._is_ahead(part):
            self._open(part)
        for _ in self._take(part.start - self._next):
            pass
        for batch in self._take(part.rows):
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
        parquet = open_parquet(self._place, part.path)
        metadata = parquet.metadata
        self._ends = np.cumsum(
            [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        )
        first = self._group(part.start)
        self._batches = parquet.iter_batches(
            part.rows,
            row_groups=range(first, metadata.num_row_groups),
            columns=self._names,
            use_threads=False,
        )
        self._path, self._left, self._next = (
            part.path,
            None,
            int(self._ends[first - 1]) if first else 0,
        )

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
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(
        column.type
    ):  # may hold bytes that are no UTF-8
        raw = column.cast(pa.large_binary()).to_pylist()
        return [
            value if value is None else value.decode("utf-8", "surrogateescape") for value in raw
        ]
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # inside a list or a struct
        values = [_value(name, value) for value in column]
    return values


def _value(name: str, scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return RowError(f"{name} is not valid UTF-8")
