"""Parquet files in small pieces: a few bytes of one may stand for gigabytes, by compression or repetition."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import JobError, one_line
from jobs.input.parquet_pages import pages
from jobs.input.splitting import BLOCK
from jobs.places import Place

# A column is decoded page by page; writers make pages of 1 MB or, of long texts, of some rows.
LARGE = 64 << 20  # bytes of a page, which may have more only if the file has them too
MOST_TIMES = 200  # larger than in the file; compressed text is 2 to 20 times larger
WIDEST = 4096  # bytes of a fixed-size value; decimals and UUIDs have 16
LEVEL_BYTES = 4  # of a value in a list, when the list is decoded: levels and offsets
BATCH_BYTES = 16 << 20  # of a column, if each row had the longest value of its dictionary
OBJECT_BYTES = 32  # of a number as a Python object


def open_parquet(place: Place, path: str, names: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file of which the columns `names` are read, in small pieces.

    Raises JobError when the file is no Parquet, or when those columns have values of any size.
    """
    try:
        found = _open(place, path)
        leaves = list(_leaves(found.schema, names))
        for leaf in leaves:
            _check_width(path, found, leaf)
        repeated = [found.schema.column(leaf).path for leaf in leaves if _may_repeat(found, leaf)]
        return _open(place, path, read_dictionary=repeated) if repeated else found
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path} cannot be read as Parquet: {one_line(error)}") from error


def _open(place: Place, path: str, **options: Any) -> pq.ParquetFile:
    file = place.filesystem.open_input_file(path)
    return pq.ParquetFile(file, buffer_size=BLOCK, pre_buffer=False, **options)


def _leaves(schema: pq.ParquetSchema, names: Sequence[str]) -> Iterator[int]:
    """Indices of what is stored of the columns `names`, which may be nested."""
    for index in range(len(schema)):
        path = schema.column(index).path
        if any(path == name or path.startswith(f"{name}.") for name in names):
            yield index


def _chunks(parquet: pq.ParquetFile, leaf: int) -> Iterator[Any]:
    for group in range(parquet.metadata.num_row_groups):
        yield parquet.metadata.row_group(group).column(leaf)


def _check_width(path: str, parquet: pq.ParquetFile, leaf: int) -> None:
    column = parquet.schema.column(leaf)
    if column.length > WIDEST:
        raise JobError(f"{path}: {column.path} has values of {column.length:,} bytes each")


def _may_repeat(parquet: pq.ParquetFile, leaf: int) -> bool:
    """Whether lists of strings are kept as the file has them: each string once, and numbers of it.

    Not when they are large, since Arrow gathers the strings of a whole row group then.
    """
    column = parquet.schema.column(leaf)
    if not column.max_repetition_level or column.logical_type.type == "DECIMAL":
        return False
    small = all(chunk.total_uncompressed_size <= LARGE for chunk in _chunks(parquet, leaf))
    return small and bool(column.physical_type == "BYTE_ARRAY")


def rows_within(size: int, parquet: pq.ParquetFile, names: Sequence[str]) -> int:
    """How many rows have `size` bytes of the columns `names`, where rows are longest; 1 or more."""
    leaves = list(_leaves(parquet.schema, names))
    mean = 1.0
    for group in map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups)):
        total = sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
        mean = max(mean, total / max(group.num_rows, 1))
    return max(1, int(size / mean))


def batches(
    place: Place, path: str, parquet: pq.ParquetFile, names: Sequence[str], *, first: int, rows: int
) -> Iterator[pa.RecordBatch]:
    """Rows from the row group `first` on, at most `rows` at a time. Raises JobError."""
    leaves = list(_leaves(parquet.schema, names))
    with place.filesystem.open_input_file(path) as file:
        for group in range(first, parquet.metadata.num_row_groups):
            chunks = [parquet.metadata.row_group(group).column(leaf) for leaf in leaves]
            lists = [parquet.schema.column(leaf).max_repetition_level > 0 for leaf in leaves]
            longest = max(map(_longest, repeat(file), repeat(path), chunks, lists), default=0)
            yield from parquet.iter_batches(
                max(1, min(rows, BATCH_BYTES // max(longest, 1))),
                row_groups=[group],
                columns=list(names),
                use_threads=False,
            )


def _longest(file: Any, path: str, chunk: Any, in_lists: bool) -> int:
    """Bytes that no value of a column exceeds, where it may have long ones many times; 0 otherwise.

    Raises JobError for a page that no corpus has.
    """
    longest = 0
    for page in pages(file, path, chunk):
        size = max(page.unpacked, page.values * LEVEL_BYTES if in_lists else 0)
        if size > LARGE and size > MOST_TIMES * page.packed:
            raise JobError(
                f"{path}: a page of {chunk.path_in_schema} unpacks to {size:,} bytes from "
                f"{page.packed:,}, more than any corpus: if it is right, write it in smaller pages"
            )
        if page.repeats:
            longest = max(longest, page.unpacked)
    return longest


def python_bytes(array: pa.Array) -> int:
    """About how much memory the values of `array` take as Python objects."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return int(array.dictionary.nbytes) + OBJECT_BYTES * len(array)
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
        return int(pc.sum(lengths).as_py() or 0) + OBJECT_BYTES * len(array)
    if pa.types.is_struct(kind):
        return sum(python_bytes(field) for field in array.flatten())
    if pa.types.is_map(kind):
        start, stop = array.offsets[0].as_py(), array.offsets[len(array)].as_py()
        both = (array.keys.slice(start, stop - start), array.items.slice(start, stop - start))
        return sum(map(python_bytes, both))
    if pa.types.is_nested(kind):
        return python_bytes(array.flatten()) + OBJECT_BYTES * len(array)
    return max(int(array.nbytes), OBJECT_BYTES * len(array))


def _is_text(kind: Any) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )
