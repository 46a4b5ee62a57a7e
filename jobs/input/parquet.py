"""Read Parquet files in bounded memory.

A few bytes of a file may decode to gigabytes, through compression or repetition.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import JobError, one_line
from jobs.input.parquet_pages import pages
from jobs.input.splitting import BLOCK
from jobs.location import Location

# A column is decoded page by page. Usual pages have 1 MB, or a few rows when texts are long.
LARGE = 64 << 20  # bytes; a larger page may not exceed MOST_TIMES its size in the file
MOST_TIMES = 200  # decoded bytes per byte in the file; text compresses to between 1/2 and 1/20
WIDEST = 4096  # bytes of a fixed-size value; decimals and UUIDs have 16
LEVEL_BYTES = 4  # per value of a decoded list, for levels and offsets
BATCH_BYTES = 16 << 20  # per column and batch, if each row had the longest value of its dictionary
OBJECT_BYTES = 32  # of a number as a Python object


def open_parquet(location: Location, path: str, names: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a Parquet file to read the columns `names`.

    Raises:
        JobError: the file is not Parquet, or one of the columns has fixed-size values of more than
            WIDEST bytes.
    """
    try:
        found = _open(location, path)
        leaves = list(_leaves(found.schema, names))
        for leaf in leaves:
            _check_width(path, found, leaf)
        repeated = [found.schema.column(leaf).path for leaf in leaves if _may_repeat(found, leaf)]
        return _open(location, path, read_dictionary=repeated) if repeated else found
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path} cannot be read as Parquet: {one_line(error)}") from error


def _open(location: Location, path: str, **options: Any) -> pq.ParquetFile:
    file = location.filesystem.open_input_file(path)
    return pq.ParquetFile(file, buffer_size=BLOCK, pre_buffer=False, **options)


def _leaves(schema: pq.ParquetSchema, names: Sequence[str]) -> Iterator[int]:
    """Indices of the stored columns below the columns `names`, which may be nested."""
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
    """Whether lists of strings are read as a dictionary: each string once, and indices.

    Not when they are large: Arrow then holds the strings of a whole row group in memory.
    """
    column = parquet.schema.column(leaf)
    if not column.max_repetition_level or column.logical_type.type == "DECIMAL":
        return False
    small = all(chunk.total_uncompressed_size <= LARGE for chunk in _chunks(parquet, leaf))
    return small and bool(column.physical_type == "BYTE_ARRAY")


def rows_within(size: int, parquet: pq.ParquetFile, names: Sequence[str]) -> int:
    """The number of rows that have `size` bytes in the columns `names`; at least 1.

    Taken from the row group with the longest rows on average.
    """
    leaves = list(_leaves(parquet.schema, names))
    mean = 1.0
    for group in map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups)):
        total = sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
        mean = max(mean, total / max(group.num_rows, 1))
    return max(1, int(size / mean))


def batches(
    location: Location,
    path: str,
    parquet: pq.ParquetFile,
    names: Sequence[str],
    *,
    first: int,
    rows: int,
) -> Iterator[pa.RecordBatch]:
    """Rows from the row group `first` on, in batches of at most `rows`.

    Raises:
        JobError: a page decodes to far more bytes than the file has for it.
    """
    leaves = list(_leaves(parquet.schema, names))
    with location.filesystem.open_input_file(path) as file:
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
    """An upper bound of the bytes of a value that a column may repeat; 0 if it repeats none.

    Raises:
        JobError: a page decodes to far more bytes than the file has for it.
    """
    longest = 0
    for page in pages(file, path, chunk):
        size = max(page.unpacked, page.values * LEVEL_BYTES if in_lists else 0)
        if size > LARGE and size > MOST_TIMES * page.packed:
            raise JobError(
                f"{path}: a page of {chunk.path_in_schema} unpacks to {size:,} bytes from "
                f"{page.packed:,}, too many for real texts: if it is valid, write smaller pages"
            )
        if page.repeats:
            longest = max(longest, page.unpacked)
    return longest


def python_bytes(array: pa.Array) -> int:
    """Roughly the memory that the values of `array` take as Python objects, in bytes."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return int(array.dictionary.nbytes) + OBJECT_BYTES * len(array)
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
        return int(pc.sum(lengths).as_py() or 0) + OBJECT_BYTES * len(array)
    if pa.types.is_struct(kind):
        return sum(python_bytes(field) for field in array.flatten())
    if pa.types.is_map(kind):
        start = array.offsets[0].as_py()
        stop = array.offsets[len(array)].as_py()
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
