"""Loading finished parts into a real PostgreSQL with pgvector."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from jobs.errors import JobError, UsageError
from lab.server import ROOT
from tests.jobs.output.loads import VECTORS, load, output, stored, table


def test_vectors_are_stored_bit_for_bit_in_a_column_of_floats(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE TABLE corpus (id int PRIMARY KEY, url text, embedding vector(16))")
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


def test_the_last_vector_of_a_repeated_id_is_stored(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url), output(tmp_path, [1, 1, 2, 1]))
    found = stored(connection)
    assert list(found) == [1, 2]
    assert np.allclose(np.array(found[1][1:-1].split(","), np.float32), VECTORS[3], atol=1e-3)


@pytest.mark.parametrize(
    ("output_type", "kind"),
    [
        ("float32", "halfvec(16)"),
        ("float16", "halfvec(16)"),
        ("int8", "halfvec(16)"),
        ("binary", "bit(16)"),
    ],
)
def test_each_output_type_has_its_column_type(
    tmp_path: Path, database_url: str, connection: psycopg.Connection, output_type: str, kind: str
) -> None:
    for _ in range(2):
        load(
            table(database_url, output_type, pa.string()),
            output(tmp_path, ["a", "b", "c", "d"], output_type),
        )
    found = connection.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'corpus'::regclass AND attname = 'embedding'"
    ).fetchone()
    assert found == (kind,)
    if output_type == "binary":
        assert stored(connection)["c"] == "".join("1" if value > 0 else "0" for value in VECTORS[2])
    else:
        value = np.array(stored(connection)["c"][1:-1].split(","), np.float32)
        assert value @ VECTORS[2] / np.linalg.norm(value) > 0.9999


def test_an_existing_table_is_filled_with_explicit_ids(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE TABLE corpus (id bigint generated always as identity primary key, "
        "url text not null, embedding halfvec(16) not null, more text default 'more')"
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
            r"is bit\(16\), and float32 vectors need vector",
        ),
        (
            "id bigint primary key, url text, embedding real[]",
            r"is real\[\], and float32 vectors need vector",
        ),
    ],
)
def test_a_table_that_cannot_take_the_rows_is_refused_before_the_work(
    database_url: str, connection: psycopg.Connection, columns: str, said: str
) -> None:
    connection.execute(f"CREATE TABLE corpus ({columns})")
    with pytest.raises(UsageError, match=said) as raised:
        table(database_url).prepare()
    assert "\n" not in str(raised.value)


def test_bits_are_refused_by_a_column_of_numbers(
    database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE TABLE corpus (id bigint primary key, url text, embedding vector(16))"
    )
    with pytest.raises(UsageError, match=r"is vector\(16\), and binary vectors need bit"):
        table(database_url, "binary").prepare()


@pytest.mark.parametrize(
    "kind", [pa.struct({"a": pa.int64()}), pa.list_(pa.string()), pa.map_(pa.string(), pa.int8())]
)
def test_a_nested_kept_column_is_refused_before_the_work(
    database_url: str, kind: pa.DataType
) -> None:
    with pytest.raises(UsageError, match="column 'url' is "):
        replace(table(database_url), kept={"url": kind}).prepare()


def test_a_character_that_postgresql_cannot_hold_is_replaced(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url, id_type=pa.string()), output(tmp_path, ["a\0b", "c", "d", "e"]))
    assert list(stored(connection)) == ["a\ufffdb", "c", "d", "e"]


def test_unchanged_rows_are_not_written_again(
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
from jobs.output.database import Database
from jobs.input.files import InputFile
from jobs.output.directory import OutputDirectory
from jobs.input.parts import Part
from jobs.location import locate
from jobs.output.postgres import Table
url, place, count, once = sys.argv[1:]
parts = [Part(n, InputFile("", "text", 0, None), 0, 0, 0, 0, 0) for n in range(int(count))]
table = Table(Database(url, ()), "corpus", pa.int64(), {"url": pa.string()}, 16, "float32", "ours")
for _ in table.load(OutputDirectory(locate(place)), parts, None):
    print("loaded", flush=True)
    if once:
        sys.stdin.read()
"""


def test_a_killed_load_can_be_repeated(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    parts = output(tmp_path, [5, 6, 7, 8])
    connection.execute("CREATE TABLE corpus (id int PRIMARY KEY, url text, embedding vector(16))")
    arguments = [sys.executable, "-c", LOADER, database_url, parts.location.path, "2"]
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


def test_a_missing_server_is_reported() -> None:
    with pytest.raises(JobError, match="PostgreSQL: "):
        table("postgresql://127.0.0.1:1/nothing").prepare()


def indexes(connection: psycopg.Connection) -> list[str]:
    found = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'corpus'")
    return [row[0].split("USING ")[1] for row in found.fetchall()]


def test_a_created_table_can_be_searched(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url), output(tmp_path, [5, 6, 7, 8]))
    assert stored(connection, "text") == {5 + n: f"text {n}\ufffd" for n in range(4)}
    assert set(stored(connection, "fingerprint").values()) == {"ours"}
    assert stored(connection, "url")[5] == "u\t0\\"
    bits = {5 + n: "".join("1" if value > 0 else "0" for value in VECTORS[n]) for n in range(4)}
    assert stored(connection, "bits") == bits
    assert sorted(indexes(connection)) == ["btree (id)", "hnsw (bits bit_hamming_ops)"]
    [(protected,)] = connection.execute(
        "SELECT relrowsecurity FROM pg_class WHERE relname = 'corpus'"
    ).fetchall()
    assert protected  # Supabase makes tables without row-level security public


def test_a_kept_column_may_be_the_text(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    parts = output(tmp_path, [5, 6, 7, 8])
    for number in (0, 1):
        renamed = parts.table(number).rename_columns(
            ["row", "id", "text", "embedding", "tokens", "windows", "truncated"]
        )
        parts.write(number, renamed, [])
    assert load(replace(table(database_url), kept={"text": pa.string()}), parts) == [2, 2]
    assert stored(connection, "text")[5] == "u\t0\\"


def test_a_text_column_of_an_existing_table_is_not_changed(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE TABLE corpus (id bigint PRIMARY KEY, url text, text text, embedding halfvec(16))"
    )
    connection.execute("INSERT INTO corpus VALUES (5, 'u', 'edited meanwhile', NULL)")
    load(table(database_url), output(tmp_path, [5, 6, 7, 8]))
    assert stored(connection, "text") == {5: "edited meanwhile", 6: None, 7: None, 8: None}


def test_vectors_of_two_models_are_not_mixed(
    tmp_path: Path, database_url: str, connection: psycopg.Connection
) -> None:
    load(table(database_url), output(tmp_path, [5, 6, 7, 8]))
    said = "holds vectors of another model .fingerprint ours, not theirs.: give another --table"
    with pytest.raises(UsageError, match=said):
        replace(table(database_url), fingerprint="theirs").prepare()
    said = r"is halfvec\(16\), and vectors have 8 dimensions: give another --table, or drop this"
    with pytest.raises(UsageError, match=said):
        replace(table(database_url), dimensions=8).prepare()
