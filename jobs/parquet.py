"""Parquet files in small pieces: a few bytes of one may stand for gigabytes, by compression or repetition."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import JobError, one_line
from jobs.places import Place
from jobs.splitting import BLOCK

# A column of a row group is decoded page by page, and one page may be all of it.
LARGE = 64 << 20  # bytes of a column that are looked at twice
MOST_TIMES = 200  # larger than in the file; compressed text is 2 to 20 times larger
WIDEST = 4096  # bytes of a fixed-size value; decimals and UUIDs have 16
LEVEL_BYTES = 4  # of a value in a list, when the list is decoded: levels and offsets
BATCH_BYTES = 32 << 20  # of a column, if each row had the longest value of its dictionary
OBJECT_BYTES = 32  # of a number as a Python object
PAGE_HEADER = 64  # bytes; its first three fields are numbers
DICTIONARY_PAGE = 2


def open_parquet(place: Place, path: str, names: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file of which the columns `names` are read, in small pieces.

    Raises JobError when the file is no Parquet, or when those columns are larger than any corpus
    makes them.
    """
    try:
        found = _open(place, path)
        leaves = list(_leaves(found.schema, names))
        for leaf in leaves:
            _check(path, found, leaf)
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


def _check(path: str, parquet: pq.ParquetFile, leaf: int) -> None:
    column = parquet.schema.column(leaf)
    if column.length > WIDEST:
        raise JobError(f"{path}: {column.path} has values of {column.length:,} bytes each")
    for chunk in _chunks(parquet, leaf):
        size = chunk.total_uncompressed_size
        if column.max_repetition_level:
            size = max(size, chunk.num_values * LEVEL_BYTES)
        if size > LARGE and size > MOST_TIMES * chunk.total_compressed_size:
            raise JobError(
                f"{path}: {column.path} unpacks to {size:,} bytes from "
                f"{chunk.total_compressed_size:,}, more than any corpus: if it is right, "
                "write it again in smaller row groups"
            )


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
            longest = max((_dictionary_bytes(file, path, chunk) for chunk in chunks), default=0)
            yield from parquet.iter_batches(
                max(1, min(rows, BATCH_BYTES // max(longest, 1))),
                row_groups=[group],
                columns=list(names),
                use_threads=False,
            )


def _dictionary_bytes(file: Any, path: str, chunk: Any) -> int:
    """Bytes of the dictionary of a column, which no value of it exceeds; 0 if it has none.

    They are the second field of the first page's header, in Thrift's compact protocol.
    """
    if not chunk.num_values:
        return 0
    start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    kind, size = _two_numbers(path, file.read_at(PAGE_HEADER, start))
    return size if kind == DICTIONARY_PAGE else 0


def _two_numbers(path: str, header: bytes) -> tuple[int, int]:
    found: list[int] = []
    position = 0
    try:
        while len(found) < 2:
            if header[position] != 0x15:  # the next field, a 32-bit number
                raise IndexError
            value = shift = 0
            while header[position := position + 1] & 0x80:
                value |= (header[position] & 0x7F) << shift
                shift += 7
            value |= header[position] << shift
            found.append(value >> 1 if not value & 1 else -1)  # zigzag: odd ones are negative
            position += 1
    except IndexError:
        raise JobError(f"{path} cannot be read as Parquet: a page has no header") from None
    return found[0], found[1]


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
