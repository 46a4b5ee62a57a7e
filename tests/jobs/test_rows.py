from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.errors import JobError
from tests.jobs.conftest import MakeJob, everything


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
        5: "text is no text",
        7: "the line is empty",
        8: "not a JSON object",
        9: "id is null",
    }


def test_bad_rows_of_parquet_have_a_reason(tmp_path: Path, make: MakeJob) -> None:
    raw = pa.array([b"fine", b"caf\xe9", None, b"", "좋다".encode()], pa.binary())
    broken = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    found = reasons(tmp_path / "a.parquet", make)
    assert found == {1: "text is not valid UTF-8", 2: "text is null", 3: "text is empty"}


def test_bad_rows_of_csv_and_text_have_a_reason(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,fine\n2,\n3,"caf\xe9"\n4\n\n6,"a ""quoted"" word"\n')
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
    assert [(row.row, Path(row.file).name, row.file_row, row.id) for row in bad] == [(2, "b.jsonl", 1, "z")]


def test_a_file_that_lost_rows_meanwhile_is_noticed(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    job = make(path)
    parts = job.parts()
    path.write_text("one two three\n")
    from jobs.rows import read

    with pytest.raises(JobError, match="has 1 records where 3 lines were counted"):
        read(job.source, parts[0], job.columns)


def test_a_quote_in_a_field_without_quotes_is_told(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,a 5" pipe\n2,b\n3,another 6" pipe\n4,c\n')
    with pytest.raises(JobError, match="RFC 4180"):
        everything(make(path))


def test_titles_tasks_and_kept_columns_come_along(tmp_path: Path, make: MakeJob) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "b", "head": "h", "for": "query", "n": 5}\n{"body": "c", "head": null}\n')
    job = make(path, "--text", "body", "--title", "head", "--task-column", "for", "--keep", "n,body")
    rows, _ = everything(job)
    assert [(row.text, row.title, row.task, dict(row.kept)) for row in rows] == [
        ("b", "h", "query", {"n": 5, "body": "b"}),
        ("c", None, None, {"n": None, "body": "c"}),
    ]
