"""The columns of the output: vectors, ids, kept columns and token counts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.postprocess import Vectors, to_binary, to_int8
from jobs.input.rows import Columns, Row

ROW, EMBEDDING = "row", "embedding"
TOKENS, WINDOWS, TRUNCATED = "tokens", "windows", "truncated"
ID = "id"


@dataclass(frozen=True, slots=True)
class OutputType:
    """How vectors are stored."""

    convert: Callable[[Vectors], NDArray[np.generic]]
    arrow: Any  # pyarrow.DataType of one stored number
    per_number: int = 1  # dimensions in one stored number


OUTPUT_TYPES: Mapping[str, OutputType] = {
    "float32": OutputType(lambda vectors: vectors, pa.float32()),
    "float16": OutputType(lambda vectors: vectors.astype(np.float16), pa.float16()),
    "int8": OutputType(to_int8, pa.int8()),
    "binary": OutputType(to_binary, pa.uint8(), per_number=8),
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """Rows and their vectors, in the order of the input."""

    rows: Sequence[Row]
    vectors: Vectors  # (n_rows, dimensions)
    tokens: Sequence[int]  # per row, as the model read it
    windows: Sequence[int]  # per row, whose vectors were averaged
    truncated: Sequence[bool]


def to_table(
    embedded: Embedded, *, columns: Columns, types: Mapping[str, Any], output_type: str
) -> pa.Table:
    """A table with one row per vector.

    Its columns are `row`, `id` if the input has ids, the kept columns, `embedding` (a fixed-size
    list), `tokens`, `windows` and `truncated`.
    """
    rows = embedded.rows
    arrays = {ROW: pa.array([row.number for row in rows], pa.int64())}
    if columns.id:
        arrays[ID] = _array([row.id for row in rows], types[columns.id])
    for name in columns.keep:
        arrays[name] = _array([row.kept[name] for row in rows], types[name])
    arrays[EMBEDDING] = _fixed_size_lists(embedded.vectors, OUTPUT_TYPES[output_type])
    arrays[TOKENS] = pa.array(embedded.tokens, pa.int32())
    arrays[WINDOWS] = pa.array(embedded.windows, pa.int32())
    arrays[TRUNCATED] = pa.array(embedded.truncated, pa.bool_())
    return pa.table(arrays)


def _array(values: Sequence[Any], kind: Any) -> pa.Array:
    if pa.types.is_string(kind):
        values = [_as_string(value) for value in values]
    return pa.array(values, kind)


def _as_string(value: Any) -> str | None:
    """Numbers, booleans, lists and objects of JSON are stored as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _fixed_size_lists(vectors: Vectors, output_type: OutputType) -> pa.FixedSizeListArray:
    width = vectors.shape[1] // output_type.per_number
    flat = np.ascontiguousarray(output_type.convert(vectors)).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, output_type.arrow), width)
