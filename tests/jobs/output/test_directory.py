"""The output directory: parts, manifest and bad rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedder.postprocess import normalise, to_binary, to_int8
from jobs.errors import JobError, UsageError
from jobs.input.rows import BadRow, Columns, Row
from jobs.location import UNFINISHED, locate
from jobs.output.columns import OUTPUT_TYPES, Embedded, to_table
from jobs.output.directory import BAD_ROWS, MANIFEST, Counts, OutputDirectory, part_name

COLUMNS = Columns(id="id", keep=("url",))
VECTORS = normalise(np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32))
ROWS = [
    Row(number, f"text {number}", 100 + number, None, None, {"url": {"n": number}})
    for number in range(3)
]
BAD = [BadRow(3, "a.jsonl", 3, "x", "text is empty")]
EMBEDDED = Embedded(
    ROWS, VECTORS, tokens=[3, 4, 5], windows=[1, 1, 1], truncated=[False, True, False]
)


def table(output_type: str = "float32", embedded: Embedded = EMBEDDED) -> pa.Table:
    types = {"id": pa.int64(), "url": pa.string()}
    return to_table(embedded, columns=COLUMNS, types=types, output_type=output_type)


@pytest.fixture
def empty(tmp_path: Path) -> OutputDirectory:
    """A place that is nobody's yet."""
    output = OutputDirectory(locate(str(tmp_path / "out")))
    output.location.filesystem.create_dir((output.location / "_bad").path)
    return output


@pytest.fixture
def output(empty: OutputDirectory) -> OutputDirectory:
    return empty.bind({"a": 1})


@pytest.mark.parametrize(
    ("output_type", "kind", "values"),
    [
        ("float32", pa.float32(), VECTORS),
        ("float16", pa.float16(), VECTORS.astype(np.float16)),
        ("int8", pa.int8(), to_int8(VECTORS)),
        ("binary", pa.uint8(), to_binary(VECTORS)),
    ],
)
def test_vectors_are_fixed_size_lists_after_a_round_trip_through_parquet(
    tmp_path: Path, output_type: str, kind: pa.DataType, values: np.ndarray
) -> None:
    pq.write_table(table(output_type), tmp_path / "a.parquet")
    column = pq.read_table(tmp_path / "a.parquet").column("embedding")
    assert column.type == pa.list_(kind, values.shape[1])
    assert np.array_equal(
        np.stack([np.asarray(row, values.dtype) for row in column.to_pylist()]), values
    )


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_a_part_without_good_rows_has_the_same_columns(output_type: str) -> None:
    none = Embedded([], VECTORS[:0], [], [], [])
    assert table(output_type, none).schema == table(output_type).schema


def test_ids_and_kept_columns_are_stored_beside_the_vectors() -> None:
    found = table().drop_columns(["embedding"]).to_pydict()
    assert found == {
        "row": [0, 1, 2],
        "id": [100, 101, 102],
        "url": ['{"n": 0}', '{"n": 1}', '{"n": 2}'],
        "tokens": [3, 4, 5],
        "windows": [1, 1, 1],
        "truncated": [False, True, False],
    }


def test_a_directory_of_parts_reads_as_one_table(output: OutputDirectory) -> None:
    with output.locked():
        counts = [output.write(0, table(), BAD), output.write(1, table(), [])]
        assert output.finish([0, 1]) == 1
    assert pq.read_table(output.location.path).num_rows == 6
    assert output.done() == {0, 1}
    assert (
        [output.counts(0), output.counts(1)] == counts == [Counts(3, 12, 1, 1), Counts(3, 12, 1, 0)]
    )
    assert (
        '"reason": "text is empty"' in (Path(output.location.path) / "_bad_rows.jsonl").read_text()
    )


def test_writing_a_part_twice_gives_the_same_bytes(output: OutputDirectory) -> None:
    path = Path(output.location.path) / "part-00000000.parquet"
    output.write(0, table(), BAD)
    first = path.read_bytes()
    output.write(0, table(), BAD)
    assert path.read_bytes() == first
    assert output.finish([0]) == 1


def test_a_job_with_other_options_is_refused_and_the_difference_named(
    empty: OutputDirectory,
) -> None:
    empty.bind({"dimensions": 384, "task": "query", "input": [1]})
    output = empty.bind(
        {"dimensions": 384, "task": None, "input": [1]}
    )  # nothing is lost: no part is there yet
    output.write(0, table(), [])
    assert empty.bind({"dimensions": 384, "task": None, "input": [1]}) == output
    with pytest.raises(UsageError, match="a job with other dimensions, input:"):
        empty.bind({"dimensions": 128, "task": None, "input": [2]})


def test_a_directory_with_other_files_is_refused(empty: OutputDirectory) -> None:
    (Path(empty.location.path) / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="holds other files"):
        empty.bind({})


def test_a_job_killed_while_writing_its_manifest_is_resumed(empty: OutputDirectory) -> None:
    (Path(empty.location.path) / f"{UNFINISHED}{MANIFEST}.1").write_bytes(b"{")
    with empty.locked():
        empty.bind({}).write(0, table(), [])
    assert not list(Path(empty.location.path).glob(f"{UNFINISHED}*"))


def test_unfinished_files_are_removed_at_the_start_and_the_end(
    output: OutputDirectory,
) -> None:
    directory = Path(output.location.path)

    def leave() -> None:
        for path in (
            directory / f"{UNFINISHED}part-00000000.parquet.1",
            directory / "_bad" / f"{UNFINISHED}x.1",
        ):
            path.write_bytes(b"half")

    for sweep in (lambda: output.bind({"a": 1}), lambda: output.finish([])):
        leave()
        sweep()
        assert not list(directory.rglob(f"{UNFINISHED}*"))


def test_a_worker_of_an_older_job_cannot_write_into_a_new_one(empty: OutputDirectory) -> None:
    old = empty.bind({"dimensions": 384})
    new = empty.bind({"dimensions": 128})
    with pytest.raises(JobError, match="now belongs to another job"):
        old.write(0, table(), BAD)
    assert [path.name for path in Path(empty.location.path).rglob("*.*")] == [MANIFEST]
    assert new.done() == set()


def test_a_part_of_another_job_is_ignored(empty: OutputDirectory) -> None:
    old = empty.bind({"dimensions": 384})
    old.write(0, table(), [])
    (Path(empty.location.path) / MANIFEST).unlink()
    (Path(empty.location.path) / part_name(0)).rename(Path(empty.location.path).parent / "late")
    new = empty.bind({"dimensions": 128})
    (Path(empty.location.path).parent / "late").rename(Path(empty.location.path) / part_name(0))
    assert new.done() == set()
    assert new.counts(0) is None
    with pytest.raises(JobError, match=r"lacks 1 parts, part-00000000\.parquet first"):
        new.finish([0])


def test_a_job_with_a_missing_part_fails(output: OutputDirectory) -> None:
    for number in (0, 1, 2):
        output.write(number, table(), [])
    (Path(output.location.path) / part_name(1)).unlink()
    with pytest.raises(JobError, match=r"lacks 1 parts, part-00000001\.parquet first"):
        output.finish([0, 1, 2])
    assert not (Path(output.location.path) / BAD_ROWS).exists()


def test_bad_rows_of_an_unfinished_part_are_discarded(
    output: OutputDirectory,
) -> None:
    output.write(0, table(), BAD)
    output.write(0, table(), [])
    assert output.finish([0]) == 0
    assert (Path(output.location.path) / BAD_ROWS).read_bytes() == b""


def test_names_of_parts_sort_by_number() -> None:
    numbers = [0, 9, 10, 99_999, 100_000, 12_345_678]
    assert sorted(map(part_name, numbers)) == [part_name(number) for number in numbers]


def test_two_jobs_cannot_write_to_one_directory(output: OutputDirectory) -> None:
    code = f"""
import sys
from jobs.output.directory import BAD_ROWS, MANIFEST, Counts, OutputDirectory, part_name
from jobs.location import locate
with OutputDirectory(locate({output.location.path!r})).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(JobError, match="is being written by another job"), output.locked():
            pass
        other.kill()
    with output.locked():
        pass


@pytest.mark.parametrize(
    "content", [b"", b"half a part", b"PAR1 and then nothing of the kind PAR1"]
)
def test_a_damaged_part_counts_as_missing(output: OutputDirectory, content: bytes) -> None:
    output.write(0, table(), [])
    output.write(1, table(), [])
    (Path(output.location.path) / part_name(0)).write_bytes(content)
    assert output.counts(0) is None
    assert output.done() == {1}


def test_bad_rows_are_readable_json_lines(output: OutputDirectory) -> None:
    ids = ["안녕하세요 😀", "caf\udce9", "\x9b2J\u202e\x1b", {"url": "책"}]
    bad = [BadRow(3 + n, "말뭉치.jsonl", 3, given, "text is empty") for n, given in enumerate(ids)]
    output.write(0, table(), bad)
    output.finish([0])
    content = (Path(output.location.path) / BAD_ROWS).read_bytes().decode()
    assert '"file": "말뭉치.jsonl"' in content
    assert '"id": "안녕하세요 😀"' in content
    assert all(char.isprintable() for char in content.replace("\n", ""))
    assert [json.loads(line)["id"] for line in content.splitlines()] == ids
