"""Encodings and delimiters of text files, such as those of Excel."""

from pathlib import Path

import pytest

from jobs.errors import UsageError
from tests.jobs.conftest import MakeJob, everything, texts

KOREAN = ["안녕하세요, 반갑습니다", "오늘은 날씨가 좋다", "책을 읽는다"]
TABLE = "번호,본문\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(KOREAN))


@pytest.mark.parametrize("encoding", ["cp949", "utf-16-le", "utf-16-be", "euc-kr", "utf-8"])
@pytest.mark.parametrize("part_rows", ["1", "2", "100"])
def test_a_given_encoding_is_used(
    tmp_path: Path, make: MakeJob, encoding: str, part_rows: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TABLE.encode(encoding))
    options = ("--text", "본문", "--id", "번호", "--encoding", encoding, "--part-rows", part_rows)
    job = make(path, *options)
    rows, bad = everything(job)
    assert [(row.id, row.text) for row in rows] == [(str(n), text) for n, text in enumerate(KOREAN)]
    assert not bad


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
def test_a_byte_order_mark_names_the_encoding(
    tmp_path: Path, make: MakeJob, encoding: str, suffix: str
) -> None:
    lines = {
        ".csv": ["text", *(f'"{text}"' for text in KOREAN)],
        ".txt": KOREAN,
        ".jsonl": [f'{{"text": "{text}"}}' for text in KOREAN],
    }[suffix]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode(encoding))
    assert texts(make(path, "--part-rows", "2")) == KOREAN
    named = "utf-16" if encoding.startswith("utf-16") else "utf-8-sig"
    assert texts(make(path, "--encoding", named)) == KOREAN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE.encode("cp949")),
        ("a.txt", "\n".join(KOREAN * 2).encode("cp949")),
        ("a.csv", ("id,text\n" + "1,caf\xe9\n2,na\xefve\n3,na\xefve\n").encode("cp1252")),
        ("a.csv", "id,text\n1,plain\n".encode("utf-16-le")),
        ("a.csv", "id,text\n1,plain\n".encode("utf-16-be")),
    ],
)
def test_another_encoding_is_reported_with_advice(
    tmp_path: Path, make: MakeJob, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"is not UTF-8: .* --encoding, such as cp949") as raised:
        make(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_utf_8_with_bad_rows_is_read_when_the_encoding_is_given(
    tmp_path: Path, make: MakeJob
) -> None:
    (tmp_path / "a.txt").write_bytes("\n".join([*KOREAN, "fine"]).encode("cp949"))
    rows, bad = everything(make(tmp_path / "a.txt", "--encoding", "utf-8"))
    assert [row.text for row in rows] == ["fine"]
    assert {row.reason for row in bad} == {"text is not valid UTF-8"}


def test_an_incomplete_character_makes_a_bad_row(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\ntwo".encode("utf-16-le") + b"\x41")
    rows, bad = everything(make(tmp_path / "a.txt"))
    assert [row.text for row in rows] == ["one"]
    assert [row.reason for row in bad] == ["the row is not valid UTF-16-LE"]
    (tmp_path / "b.csv").write_bytes("text\n책\n".encode("cp949") + b"\xc3\n")
    rows, bad = everything(make(tmp_path / "b.csv", "--encoding", "cp949"))
    assert [row.text for row in rows] == ["책"]
    assert [row.reason for row in bad] == ["text is not valid CP949"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_delimiter_is_detected_in_the_header(
    tmp_path: Path, make: MakeJob, delimiter: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'id{delimiter}text\n1{delimiter}"a, b; c"\n2{delimiter}d\n')
    rows, _ = everything(make(path, "--id", "id"))
    assert [(row.id, row.text) for row in rows] == [("1", "a, b; c"), ("2", "d")]


def test_a_given_delimiter_is_used(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.csv").write_text("id:text\n1:a\n")
    assert texts(make(tmp_path / "a.csv", "--delimiter", ":")) == ["a"]
    (tmp_path / "b.csv").write_text("id;text,more\n1;a,b\n")
    with pytest.raises(UsageError, match="has no column 'text'; it has 'id;text', 'more'"):
        make(tmp_path / "b.csv", "--delimiter", ",")


def test_a_missing_column_is_reported_with_the_existing_ones(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.csv").write_text("id;body\n1;a\n")
    with pytest.raises(UsageError, match="has no column 'text'; it has 'id', 'body'"):
        make(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--encoding", "nonsense"), "--encoding 'nonsense' is not known"),
        (("--encoding", "hex"), "--encoding 'hex' is not known"),
        (("--encoding", "utf-32"), "files in utf-32 are not read: convert them to UTF-8"),
        (("--encoding", "iso2022-jp"), "files in iso2022-jp are not read"),
        (("--delimiter", "||"), r"--delimiter should be one character, not '\|\|'"),
        (("--delimiter", '"'), "--delimiter should be one character"),
    ],
)
def test_an_encoding_or_delimiter_that_no_file_can_have_is_refused(
    tmp_path: Path, make: MakeJob, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(UsageError, match=said):
        make(tmp_path / "a.csv", *options)


def test_the_text_format_is_part_of_the_manifest(tmp_path: Path, make: MakeJob) -> None:
    (tmp_path / "a.csv").write_text("text;n\na;b\n")
    semicolon = make(tmp_path / "a.csv")
    comma = make(tmp_path / "a.csv", "--text", "text;n")
    assert semicolon.manifest({})["input"] != comma.manifest({})["input"]
