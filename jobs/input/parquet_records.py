"""The records of a part of a Parquet file, in bounded memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.errors import JobError, RowError
from jobs.input import splitting
from jobs.input.parquet import batches, open_parquet, python_bytes
from jobs.input.parts import Part
from jobs.input.record import TOO_LONG, Records
from jobs.location import Location

DECODED = 64 << 20  # bytes of a part in memory; a file of a few bytes may hold more


class ParquetRecordReader:
    """Reads Parquet files forward, so that a row group is decoded once for all its parts."""

    def __init__(self, location: Location, names: Sequence[str]) -> None:
        self._location = location
        self._names = list(names)
        self._path: str | None = None
        self._ends = np.empty(0, np.int64)  # of the row groups, in rows
        self._batches: Iterator[Any] = iter(())  # of pyarrow.RecordBatch
        self._left: Any = None  # rows of the last batch that belong to the next part
        self._next = 0  # number of the next row in the file

    def read(self, part: Part) -> Records:
        """The rows of a part. Continues from the previous part if both are in one row group.

        Raises:
            JobError: the part decodes to more than DECODED bytes.
        """
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
                    f"{part.file_row} on: give a smaller --part-rows, and another OUTPUT"
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
        parquet = open_parquet(self._location, part.path, self._names)
        metadata = parquet.metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(rows)
        first = self._group(part.start)
        self._batches = batches(
            self._location, part.path, parquet, self._names, first=first, rows=part.rows
        )
        self._path = part.path
        self._left = None
        self._next = int(self._ends[first - 1]) if first else 0

    def _take(self, count: int) -> Iterator[Any]:
        """The next `count` rows, or fewer at the end of the file, in batches."""
        while count:
            batch = self._left if self._left is not None else next(self._batches, None)
            if batch is None:
                return
            here = batch.slice(0, count)
            self._left = batch.slice(here.num_rows) if here.num_rows < batch.num_rows else None
            self._next = self._next + here.num_rows
            count = count - here.num_rows
            yield here


def _values(name: str, column: pa.Array) -> list[Any]:
    """The values as Python objects; a string that a dictionary column repeats is one object."""
    if pa.types.is_dictionary(column.type):
        distinct = [*_values(name, column.dictionary), None]
        return [distinct[-1 if index is None else index] for index in column.indices.to_pylist()]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()  # the bytes may be invalid UTF-8
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
