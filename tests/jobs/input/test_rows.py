"""Rows of parts: good ones, and bad ones with their reasons."""

import json
import re
from pathlib import Path
from typing import Any

import fsspec.implementations.local
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs
from pydantic import TypeAdapter

from api.options import Titles
from embedder.tasks import LONGEST_TITLE
from jobs.errors import JobError
from jobs.input.files import find_files
from jobs.input.parts import split
from jobs.input.rows import Columns, RowReader
from jobs.location import Location
from tests.jobs.conftest import MakeJob, everything, write_jsonl


def reasons(path: Path, make: MakeJob, *options: str) -> dict[int, str]:
    """Why rows are bad, by their number; none is both good and bad, and none is missing."""
    job = make(path, *options)
    rows, bad = everything(job)
    assert sorted([row.number for row in rows] + [row.row for row in bad]) == list(
        range(sum(part.rows for part in job.parts()))
    )
    return {row.row: row.reason for row in bad}


def test_bad_lines_of_jsonl_have_a_reason(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'{"text": "fine", "id": 1}\n'
        b'{"text": null, "id": 2}\n'
        b'{"text": "", "id": 3}\n'
        b'{"text": "caf\xe9", "id": 4}\n'
        b'{"text": "\\ud800", "id": 5}\n'
        b'{"text": 5, "id": 6}\n'
        b'{"text": "cut\n'
        b"\n"
        b"[1]\n"
        b'{"text": "no id"}\n'
        b'{"text": "fine", "id": 9}'
    )
    found = reasons(tmp_path / "a.jsonl", make, "--id", "id")
    assert found.pop(6).startswith("not JSON: ")
    assert found == {
        1: "text is null",
        2: "text is empty",
        3: "text is not valid UTF-8",
        4: "text is not valid UTF-8",
        5: "text is not text",
        7: "the line is empty",
        8: "not a JSON object",
        9: "id is null",
    }


def test_bad_rows_of_parquet_have_a_reason(tmp_path: Path, make: MakeJob) -> None:
    raw = pa.array([b"fine", b"caf\xe9", None, b"", "좋다".encode()], pa.binary())
    broken = pa.StringArray.from_buffers(
        len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0]
    )
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    found = reasons(tmp_path / "a.parquet", make)
    assert found == {1: "text is not valid UTF-8", 2: "text is null", 3: "text is empty"}


def test_bad_rows_of_csv_and_text_have_a_reason(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'id,text\n1,fine\n2,\n3,"caf\xe9"\n4\n\n6,"a ""quoted"" word"\n'
    )
    assert reasons(tmp_path / "a.csv", make, "--id", "id") == {
        1: "text is empty",
        2: "text is not valid UTF-8",
        3: "1 fields where the header has 2",
        4: "0 fields where the header has 2",
    }
    (tmp_path / "a.txt").write_bytes(b"fine\n\ncaf\xe9\n")
    assert reasons(tmp_path / "a.txt", make) == {1: "text is empty", 2: "text is not valid UTF-8"}


def test_bad_rows_know_their_file_and_id(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "a", "id": "x"}\n')
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "a", "id": "y"}\n{"text": "", "id": "z"}\n')
    _, bad = everything(make(tmp_path / "in", "--id", "id"))
    assert [(row.row, Path(row.file).name, row.file_row, row.id) for row in bad] == [
        (2, "b.jsonl", 1, "z")
    ]


def test_a_file_that_has_lost_rows_is_noticed(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    job = make(path)
    parts = job.parts()
    path.write_text("one two three\n")
    with pytest.raises(JobError, match="has 1 rows where 3 were counted"):
        RowReader(job.source, job.columns).read(parts[0])


def test_a_quote_in_an_unquoted_field_is_reported(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,a 5" pipe\n2,b\n3,another 6" pipe\n4,c\n')
    with pytest.raises(JobError, match="RFC 4180"):
        everything(make(path))


def test_titles_tasks_and_kept_columns_are_read(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"body": "b", "head": "h", "for": "query", "n": 5}\n{"body": "c", "head": null}\n'
    )
    job = make(
        path, "--text", "body", "--title", "head", "--task-column", "for", "--keep", "n,body"
    )
    rows, _ = everything(job)
    assert [(row.text, row.title, row.task, dict(row.kept)) for row in rows] == [
        ("b", "h", "query", {"n": 5, "body": "b"}),
        ("c", None, None, {"n": None, "body": "c"}),
    ]


def test_an_invalid_kept_value_makes_a_bad_row(tmp_path: Path, make: MakeJob) -> None:
    deep = "[" * 900 + "]" * 900
    (tmp_path / "a.jsonl").write_bytes(
        b'{"text": "a", "id": ["\\ud800"], "n": 1}\n'
        b'{"text": "b", "id": "b", "n": {"x": ["\\ud800"]}}\n'
        b'{"text": "c", "id": "c", "n": {"x": "caf\xe9"}}\n'
        b'{"text": "d", "id": {"x": 1}, "n": [1]}\n'
        b'{"text": "e", "id": "e", "n": ' + deep.encode() + b"}\n"
    )
    found = reasons(tmp_path / "a.jsonl", make, "--id", "id", "--keep", "n")
    assert {row: reason for row, reason in found.items() if row < 4} == {
        0: "id is not valid UTF-8",
        1: "n is not valid UTF-8",
        2: "n is not valid UTF-8",
    }


def test_invalid_utf_8_in_a_list_makes_a_bad_row(tmp_path: Path, make: MakeJob) -> None:
    raw = pa.array([b"fine", b"caf\xe9", b"x"], pa.binary())
    broken = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), broken)
    pq.write_table(pa.table({"text": ["a", "b", "c"], "tags": tags}), tmp_path / "a.parquet")
    assert reasons(tmp_path / "a.parquet", make, "--keep", "tags") == {1: "tags is not valid UTF-8"}


@given(
    starts=st.lists(st.integers(0, 19), min_size=1, max_size=12),
    group_rows=st.integers(1, 60),
    part_rows=st.integers(1, 9),
)
def test_parts_of_parquet_can_be_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, starts: list[int], group_rows: int, part_rows: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.parquet"  # one file for all examples
    pq.write_table(
        pa.table({"text": [f"text {n}" for n in range(50)]}), path, row_group_size=group_rows
    )
    place, files = find_files(str(path))
    parts = list(split(place, files, ["text"], part_rows=part_rows))
    reader = RowReader(place, Columns())
    for start in starts:
        part = parts[start % len(parts)]
        rows, _ = reader.read(part)
        assert [row.text for row in rows] == [f"text {n}" for n in range(part.start, part.stop)]


def test_a_row_group_is_decoded_once_for_all_its_parts(tmp_path: Path, make: MakeJob) -> None:
    table = pa.table({"text": [f"{n} " * 40 for n in range(60_000)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=len(table))
    read = 0

    class Counted(fsspec.implementations.local.LocalFileSystem):
        def open(self, *arguments: Any, **options: Any) -> Any:
            file = super().open(*arguments, **options)
            reading = file.read

            def count(size: int = -1) -> bytes:
                nonlocal read
                content: bytes = reading(size)
                read += len(content)
                return content

            file.read = count
            return file

    job = make(path)
    place = Location(fs.PyFileSystem(fs.FSSpecHandler(Counted())), str(path))
    reader = RowReader(place, job.columns)
    assert sum(len(reader.read(part)[0]) for part in job.parts()) == len(table)
    assert path.stat().st_size <= read < 2 * path.stat().st_size


BLANK = [" \t ", "\u200b", "\ufeff\u00ad", "\u3000\u3164", "\u2800\n"]


@pytest.mark.parametrize("text", BLANK)
def test_a_blank_text_is_a_bad_row(tmp_path: Path, make: MakeJob, text: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": text}, {"text": f"{text}a"}])
    assert reasons(source, make) == {
        0: "text is blank: it has only white space and invisible characters"
    }


@pytest.mark.parametrize("title", ["", *BLANK, None])
def test_a_blank_title_is_ignored(tmp_path: Path, make: MakeJob, title: str | None) -> None:
    records = [{"text": "a", "head": title}]
    pq.write_table(pa.Table.from_pylist([*records, {"head": "h"}]), tmp_path / "a.parquet")
    for source in (write_jsonl(tmp_path / "a.jsonl", records), tmp_path / "a.parquet"):
        rows, _ = everything(make(source, "--title", "head"))
        assert [row.title for row in rows] == [None]


def test_an_empty_cell_of_csv_is_null(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text,head,for,url\n1,a,,,\n2,b,"","",""\n,c,h,query,u\n4,,h,query,u\n')
    job = make(path, "--id", "id", "--title", "head", "--task-column", "for", "--keep", "url")
    rows, bad = everything(job)
    assert [(row.id, row.title, row.task, dict(row.kept)) for row in rows] == [
        ("1", None, None, {"url": None}),
        ("2", None, None, {"url": None}),
    ]
    assert [row.reason for row in bad] == ["id is null", "text is empty"]


def test_titles_have_the_limit_of_requests(tmp_path: Path, make: MakeJob) -> None:
    schema = json.dumps(TypeAdapter(Titles).json_schema())
    assert set(re.findall(r'"maxLength": (\d+)', schema)) == {f"{LONGEST_TITLE}"}
    titles = ["\U0001f600" * LONGEST_TITLE, "\U0001f600" * (LONGEST_TITLE + 1)]
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "head": title} for title in titles])
    assert reasons(source, make, "--title", "head") == {
        1: "head has 1,001 characters, a title may have 1,000"
    }
