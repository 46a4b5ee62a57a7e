"""Splitting input files into numbered parts."""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import JobError, UsageError
from jobs.input import splitting
from jobs.input.files import find_files
from jobs.input.parts import split
from jobs.job import make_job
from tests.jobs.conftest import MakeJob, everything, texts, write_jsonl


def numbered(count: int) -> list[dict[str, object]]:
    return [{"text": f"text number {number}", "n": number} for number in range(count)]


def write(path: Path, records: list[dict[str, object]]) -> Path:
    """The same records in the format of the name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        write_jsonl(path, records)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "n"])
            writer.writeheader()
            writer.writerows(records)
    else:
        path.write_text("".join(f"{record['text']}\n" for record in records))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".txt"])
@pytest.mark.parametrize("part_rows", [1, 3, 7, 10, 1000])
def test_parts_hold_every_row_once_in_order(
    tmp_path: Path, make: MakeJob, suffix: str, part_rows: int
) -> None:
    job = make(write(tmp_path / f"a{suffix}", numbered(23)), "--part-rows", str(part_rows))
    rows, bad = everything(job)
    assert [(row.number, row.text) for row in rows] == [(n, f"text number {n}") for n in range(23)]
    assert not bad
    assert {part.rows for part in job.parts()[:-1]} <= {part_rows}


def test_files_are_sorted_by_path_and_rows_numbered_over_all_files(
    tmp_path: Path, make: MakeJob
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    write(tmp_path / "in" / "c.csv", numbered(2))
    write(tmp_path / "in" / "b" / "z.parquet", numbered(3))
    write(tmp_path / "in" / "a.jsonl", numbered(4))
    (tmp_path / "in" / "README.md").write_text("not data")
    job = make(tmp_path / "in", "--part-rows", "2")
    rows, _ = everything(job)
    assert [row.number for row in rows] == list(range(9))
    assert [Path(part.path).name for part in job.parts()] == ["a.jsonl"] * 2 + ["z.parquet"] * 2 + [
        "c.csv"
    ]


@given(
    records=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.text('a",\r\n', max_size=9),
        ),
        min_size=1,
        max_size=12,
    ),
    part_rows=st.integers(1, 5),
    block=st.integers(1, 40),
)
def test_a_line_break_between_quotes_ends_no_record(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str]],
    part_rows: int,
    block: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.csv"  # one file for all examples
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [("text", "other"), *records]
    )
    path.write_bytes(text.getvalue().encode())
    place, files = find_files(str(path))
    before = splitting.BLOCK
    splitting.BLOCK = block
    try:
        spans = [
            (part.start, part.stop, part.rows)
            for part in split(place, files, ["text"], part_rows=part_rows)
        ]
    finally:
        splitting.BLOCK = before
    content = path.read_bytes()
    read = [
        list(csv.reader(io.StringIO(content[start:stop].decode(), newline="")))
        for start, stop, _ in spans
    ]
    assert [len(found) for found in read] == [rows for *_, rows in spans]
    assert [tuple(record) for found in read for record in found] == records


def test_a_last_line_needs_no_line_break_and_a_byte_order_mark_is_skipped(
    tmp_path: Path, make: MakeJob
) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo".encode())
    assert texts(make(tmp_path / "a.txt")) == ["one", "two"]
    (tmp_path / "a.csv").write_bytes('\ufeffid,text\r\n1,"one\r\nand a half"\r\n2,two'.encode())
    assert texts(make(tmp_path / "a.csv")) == ["one\r\nand a half", "two"]


def test_an_empty_file_has_no_parts(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    assert make(tmp_path / "a.txt").parts() == []


def test_files_inside_an_archive_are_read_through_fsspec(tmp_path: Path) -> None:
    import zipfile

    from jobs.embed_dataset import parse

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(write(tmp_path / "a.jsonl", numbered(5)), "inside/a.jsonl")
    job = make_job(
        parse(
            [f"zip://inside/a.jsonl::{tmp_path}/a.zip", str(tmp_path / "out"), "--part-rows", "2"]
        )
    )
    assert texts(job) == [f"text number {number}" for number in range(5)]


def test_a_url_of_arrows_own_filesystems_is_read(tmp_path: Path, make: MakeJob) -> None:
    source = write(tmp_path / "a.jsonl", numbered(5))
    from jobs.embed_dataset import parse

    job = make_job(parse([source.as_uri(), (tmp_path / "out").as_uri()]))
    assert len(texts(job)) == 5


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("a.jsonl", b'{"txt": "a"}\n', (), "has no column 'text'; it has 'txt'"),
        ("a.csv", b"id,body\n1,a\n", (), "has no column 'text'; it has 'id', 'body'"),
        ("a.txt", b"a\n", ("--id", "id"), "has no column 'id'; it has 'text'"),
        ("a.jsonl", b"nothing of the kind\n", (), "is not JSONL"),
        (
            "a.jsonl",
            b'{"text": "a"}\n',
            ("--title", "titel"),
            "has no column 'titel'; it has 'text'",
        ),
        ("a.csv", b'id,text,size (")\n1,a,2\n2,b,3\n3,c,4\n', (), "would swallow 3 lines"),
        ("a.csv", b'id,text,"size\n1,a,2\n2,b,3\n', (), "has no valid header"),
        ("a.csv", b"id,text\r1,a\r2,b\r", (), "has no valid header"),
        ("a.csv", b"\n1,a\n", (), "has no column 'text'"),
        ("a.parquet", b"nothing of the kind", (), "cannot be read as Parquet"),
        ("a.gz", b"", (), "holds no file whose name ends in"),
        ("a.jsonl", b'{"text": "a", "row": 1}\n', ("--keep", "row"), "--keep cannot have row"),
        ("a.txt", b"a\n", ("--task", "query", "--task-column", "t"), "exclude each other"),
    ],
)
def test_an_invalid_input_or_option_is_reported_in_one_line(
    tmp_path: Path, make: MakeJob, name: str, content: bytes, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JobError, match=said) as raised:
        make(tmp_path / name, *options)
    assert "\n" not in str(raised.value)


def test_an_unclosed_quote_is_reported_before_the_rest_is_in_memory(
    tmp_path: Path, make: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "BLOCK", 1000)
    monkeypatch.setattr(splitting, "LONGEST", 10_000)
    path = tmp_path / "a.csv"
    path.write_text("id,text\n" + "1,a\n" * 20 + '2,"b\n' + "3,c\n" * 100_000)
    with pytest.raises(JobError, match=r"in row 20, or a quote there that is not closed"):
        make(path).parts()
    path.write_text("id,text\n" + "1,a\n" * 100_000)
    assert sum(part.rows for part in make(path).parts()) == 100_000


def test_empty_files_among_others_are_skipped(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "in").mkdir()
    for name, content in {
        "a.jsonl": b"",
        "b.csv": b"",
        "c.txt": b"\xef\xbb\xbf",
        "d.csv": b"id,text\n",
    }.items():
        (tmp_path / "in" / name).write_bytes(content)
    write_jsonl(tmp_path / "in" / "e.jsonl", [{"text": "a", "id": "1"}])
    assert texts(make(tmp_path / "in")) == ["a"]
    (tmp_path / "in" / "e.jsonl").unlink()
    assert make(tmp_path / "in").parts() == []


def test_columns_of_jsonl_are_those_of_the_first_lines_that_can_be_read(
    tmp_path: Path, make: MakeJob
) -> None:
    path = tmp_path / "a.jsonl"
    deep = b"[" * 100_000
    path.write_bytes(
        b'\n{"text": "caf\xe9"}\n' + deep + b'\n{"text": "a"}\n{"text": "b", "head": "h", "n": 5}\n'
    )
    rows, bad = everything(make(path, "--title", "head", "--keep", "n"))
    assert [(row.text, row.title, row.kept["n"]) for row in rows] == [
        ("a", None, None),
        ("b", "h", 5),
    ]
    assert [row.reason for row in bad] == [
        "the line is empty",
        "text is not valid UTF-8",
        "not JSON that can be read: it is nested too deeply",
    ]


def test_a_column_that_may_be_null_need_not_be_in_every_file(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "a"}])
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"text": "b", "head": "h"}])
    rows, _ = everything(make(tmp_path / "in", "--title", "head"))
    assert [row.title for row in rows] == [None, "h"]
    with pytest.raises(UsageError, match="has no column 'head'"):
        make(tmp_path / "in", "--id", "head")


def test_a_first_line_longer_than_a_block_is_read_whole(
    tmp_path: Path, make: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "BLOCK", 10)
    write_jsonl(tmp_path / "a.jsonl", [{"first": "x" * 1000, "text": "a"}, {"text": "b"}])
    assert texts(make(tmp_path / "a.jsonl")) == ["a", "b"]


def test_a_missing_input_is_named(tmp_path: Path, make: MakeJob) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.jsonl does not exist"):
        make(tmp_path / "nowhere.jsonl")


def test_an_output_inside_the_input_is_refused(tmp_path: Path, make: MakeJob) -> None:
    write(tmp_path / "a.txt", numbered(1))
    with pytest.raises(UsageError, match="OUTPUT is inside INPUT"):
        make(tmp_path)


def test_a_column_of_two_types_is_refused(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.parquet", numbered(2))
    write(tmp_path / "in" / "b.jsonl", numbered(2))
    with pytest.raises(UsageError, match=r"column 'n' is string in .* and int64 in"):
        make(tmp_path / "in", "--id", "n")


def test_a_text_column_of_numbers_is_refused(tmp_path: Path, make: MakeJob) -> None:
    with pytest.raises(UsageError, match="column 'n' is int64, not text"):
        make(write(tmp_path / "a.parquet", numbered(2)), "--text", "n")
