import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from embedder.postprocess import normalise
from jobs.columns import Embedded, to_table
from jobs.errors import JobError, UsageError
from jobs.output import Output
from jobs.places import locate
from jobs.postgres import Table
from jobs.rows import Columns, Row
from tests.live.server import ROOT

DIMENSIONS = 16
VECTORS = normalise(np.random.default_rng(0).normal(size=(4, DIMENSIONS)).astype(np.float32))


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS corpus")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        yield connection


def output(directory: Path, ids: list[object], output_type: str = "float32") -> Output:
    """Two parts, of the first two ids and of the others."""
    place = locate(str(directory))
    place.filesystem.create_dir((place / "_bad").path)
    found = Output(place).bind({})
    kind = pa.string() if isinstance(ids[0], str) else pa.int64()
    for part in (0, 1):
        rows = [
            Row(i, "", ids[i], None, None, {"url": f"u\t{i}\\"}) for i in (2 * part, 2 * part + 1)
        ]
        embedded = Embedded(rows, VECTORS[2 * part : 2 * part + 2], [1, 1], [False, False])
        columns, types = Columns(id="id", keep=("url",)), {"id": kind, "url": pa.string()}
        found.write(
            part, to_table(embedded, columns=columns, types=types, output_type=output_type), []
        )
    return found


def table(url: str, output_type: str = "float32", id_type: pa.DataType = pa.int64()) -> Table:  # noqa: B008
    return Table(url, "corpus", id_type, {"url": pa.string()}, DIMENSIONS, output_type)


def load(into: Table, parts: Output) -> list[int]:
    into.prepare()
    return list(into.load(parts, [0, 1]))


def stored(connection: psycopg.Connection, column: str = "embedding") -> dict[object, str]:
    return dict(connection.execute(f"SELECT id, {column}::text FROM corpus ORDER BY id").fetchall())


def test_every_vector_arrives_to_the_bit_in_a_table_made_for_it(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    assert load(table(database_url), output(tmp_path, [5, 6, 7, 8])) == [2, 2]
    found = {
        key: np.array(text[1:-1].split(","), np.float32) for key, text in stored(connection).items()
    }
    assert all(np.array_equal(found[5 + i], VECTORS[i]) for i in range(4))
    assert stored(connection, "url")[5] == "u\t0\\"


def test_loading_again_changes_nothing_and_new_vectors_replace_old_ones(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url), output(tmp_path / "a", [5, 6, 7, 8]))
    before = stored(connection)
    load(table(database_url), output(tmp_path / "a", [5, 6, 7, 8]))
    assert stored(connection) == before
    load(table(database_url), output(tmp_path / "b", [6, 5, 7, 9]))
    after = stored(connection)
    assert (after[5], after[6], after[8]) == (before[6], before[5], before[8])
    assert len(after) == 5


def test_of_an_id_that_comes_twice_the_last_vector_counts(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url), output(tmp_path, [1, 1, 2, 1]))
    found = stored(connection)
    assert list(found) == [1, 2]
    assert np.array_equal(np.array(found[1][1:-1].split(","), np.float32), VECTORS[3])


@pytest.mark.parametrize(
    ("output_type", "kind"),
    [("float16", "halfvec(16)"), ("int8", "halfvec(16)"), ("binary", "bit(16)")],
)
def test_smaller_types_have_a_column_of_their_own(
    tmp_path: Path, database_url: str, connection: psycopg.Connection, output_type: str, kind: str
) -> None:
    load(
        table(database_url, output_type, pa.string()),
        output(tmp_path, ["a", "b", "c", "d"], output_type),
    )
    found = connection.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'corpus'::regclass "
        "AND attname = 'embedding'"
    ).fetchone()
    assert found == (kind,)
    if output_type == "binary":
        assert stored(connection)["c"] == "".join("1" if value > 0 else "0" for value in VECTORS[2])
    else:
        value = np.array(stored(connection)["c"][1:-1].split(","), np.float32)
        assert value @ VECTORS[2] / np.linalg.norm(value) > 0.9999


def test_a_table_that_was_there_is_filled_its_own_ids_included(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE TABLE corpus (id bigint generated always as identity primary key, url text not null, "
        "embedding halfvec(16) not null, more text default 'more')"
    )
    load(table(database_url), output(tmp_path, [5, 6, 7, 8]))
    assert list(stored(connection)) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("id bigint, url text, embedding vector(16)", "no unique or exclusion constraint"),
        (
            "id bigint primary key, url text",
            'column "embedding" of relation "corpus" does not exist',
        ),
        (
            "id bigint primary key, embedding vector(16)",
            'column "url" of relation "corpus" does not exist',
        ),
        (
            "id bigint primary key, url text, embedding vector(8)",
            r"is vector\(8\), and vectors have 16 dimensions",
        ),
        (
            "id bigint primary key, url text, embedding bit(16)",
            r"is bit\(16\), and float32 vectors want vector",
        ),
        (
            "id bigint primary key, url text, embedding real[]",
            r"is real\[\], and float32 vectors want vector",
        ),
    ],
)
def test_a_table_that_cannot_take_the_rows_is_found_before_the_work(
    database_url: str, connection: psycopg.Connection, columns: str, said: str
) -> None:
    connection.execute(f"CREATE TABLE corpus ({columns})")
    with pytest.raises(UsageError, match=said) as raised:
        table(database_url).prepare()
    assert "\n" not in str(raised.value)


def test_bits_do_not_go_into_a_column_of_numbers(
    database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE TABLE corpus (id bigint primary key, url text, embedding vector(16))"
    )
    with pytest.raises(UsageError, match=r"is vector\(16\), and binary vectors want bit"):
        table(database_url, "binary").prepare()


@pytest.mark.parametrize(
    "kind", [pa.struct({"a": pa.int64()}), pa.list_(pa.string()), pa.map_(pa.string(), pa.int8())]
)
def test_a_kept_column_that_no_table_takes_is_found_before_the_work(
    database_url: str, kind: pa.DataType
) -> None:
    with pytest.raises(UsageError, match="column 'url' is "):
        replace(table(database_url), kept={"url": kind}).prepare()


def test_a_character_that_postgresql_cannot_hold_is_replaced(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url, id_type=pa.string()), output(tmp_path, ["a\0b", "c", "d", "e"]))
    assert list(stored(connection)) == ["a\ufffdb", "c", "d", "e"]


def test_rows_that_are_there_already_are_not_written_again(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    def versions() -> list[tuple[int, str]]:
        return connection.execute("SELECT id, xmin::text FROM corpus ORDER BY id").fetchall()

    load(table(database_url), output(tmp_path / "a", [5, 6, 7, 8]))
    before = versions()
    load(table(database_url), output(tmp_path / "a", [5, 6, 7, 8]))
    assert versions() == before
    load(table(database_url), output(tmp_path / "b", [5, 6, 8, 7]))
    assert [row[0] for row in set(versions()) - set(before)] in ([7, 8], [8, 7])


LOADER = """
import sys
import pyarrow as pa
from jobs.output import Output
from jobs.places import locate
from jobs.postgres import Table
url, place, parts, once = sys.argv[1:]
for _ in Table(url, "corpus", pa.int64(), {}, 16, "float32").load(Output(locate(place)), [*range(int(parts))]):
    print("loaded", flush=True)
    if once:
        sys.stdin.read()
"""


def test_a_load_that_is_killed_is_taken_up_again(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    parts = output(tmp_path, [5, 6, 7, 8])
    replace(table(database_url), kept={}).prepare()
    arguments = [sys.executable, "-c", LOADER, database_url, parts.place.path, "2"]
    with subprocess.Popen(
        [*arguments, "once"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as loader:
        assert loader.stdout is not None
        assert loader.stdout.readline() == b"loaded\n"
        loader.kill()
    assert list(stored(connection)) == [5, 6]
    subprocess.run([*arguments, ""], check=True, capture_output=True, cwd=ROOT)
    assert list(stored(connection)) == [5, 6, 7, 8]


def test_a_part_without_good_rows_adds_nothing(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    parts = output(tmp_path, [5, 6, 7, 8])
    parts.write(1, parts.table(1).slice(0, 0), [])
    assert load(table(database_url), parts) == [2, 0]
    assert list(stored(connection)) == [5, 6]


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(JobError, match="PostgreSQL: "):
        table("postgresql://127.0.0.1:1/nothing").prepare()
