"""Finished parts of a few rows, loaded into a table."""

from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa

from embedder.postprocess import normalise
from jobs.input.files import find_files
from jobs.input.parts import split
from jobs.input.rows import Columns, Row, RowReader
from jobs.location import locate
from jobs.output.columns import Embedded, to_table
from jobs.output.database import Database
from jobs.output.directory import OutputDirectory
from jobs.output.postgres import Table
from tests.jobs.conftest import write_jsonl

DIMENSIONS = 16
VECTORS = normalise(np.random.default_rng(0).normal(size=(4, DIMENSIONS)).astype(np.float32))


def output(directory: Path, ids: list[object], output_type: str = "float32") -> OutputDirectory:
    """Parts of two ids each."""
    place = locate(str(directory))
    place.filesystem.create_dir((place / "_bad").path)
    found = OutputDirectory(place).bind({})
    kind = pa.string() if isinstance(ids[0], str) else pa.int64()
    for part in range(len(ids) // 2):
        numbers = (2 * part, 2 * part + 1)
        rows = [Row(i, "", ids[i], None, None, {"url": f"u\t{i}\\"}) for i in numbers]
        vectors = VECTORS[[i % len(VECTORS) for i in numbers]]
        embedded = Embedded(rows, vectors, [1, 1], [1, 1], [False, False])
        columns = Columns(id="id", keep=("url",))
        types = {"id": kind, "url": pa.string()}
        found.write(
            part, to_table(embedded, columns=columns, types=types, output_type=output_type), []
        )
    return found


def table(url: str, output_type: str = "float32", id_type: pa.DataType | None = None) -> Table:
    return Table(
        Database(url, ()),
        "corpus",
        id_type or pa.int64(),
        {"url": pa.string()},
        DIMENSIONS,
        output_type,
        "ours",
    )


def load(into: Table, parts: OutputDirectory) -> list[int]:
    """Load parts, with texts from an input file; returns the rows of each part."""
    count = len(parts.done())
    records = [{"text": f"text {n}\0"} for n in range(2 * count)]
    source = write_jsonl(Path(parts.location.path).parent / "texts.jsonl", records)
    place, files = find_files(str(source))
    into.prepare()
    reader = RowReader(place, Columns())
    return list(into.load(parts, list(split(place, files, ["text"], part_rows=2)), reader))


def stored(connection: psycopg.Connection, column: str = "embedding") -> dict[object, str]:
    return dict(connection.execute(f"SELECT id, {column}::text FROM corpus ORDER BY id").fetchall())
