"""Splitting text files into records, with any size of block and record."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.input import splitting

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), max_size=12)
ENCODINGS = {"utf-8": "u1", "utf-16-le": "<u2", "utf-16-be": ">u2"}


def split(
    content: bytes, *, block: int, longest: int, unit: str, quotes: bool = False
) -> list[bytes | None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "BLOCK", block)
        patch.setattr(splitting, "LONGEST", longest)
        return list(splitting.records(io.BytesIO(content), 0, quotes=quotes, unit=unit))


@given(
    lines=LINES,
    ended=st.booleans(),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    block=st.integers(1, 20).map(lambda units: 2 * units),
    longest=st.integers(0, 30),
)
def test_records_are_lines_and_too_long_ones_are_none(
    lines: list[str], ended: bool, encoding: str, block: int, longest: int
) -> None:
    content = "\n".join(lines) + ("\n" if ended and lines else "")
    expected = [line.encode(encoding) for line in keep_ends(content)]
    found = split(content.encode(encoding), block=block, longest=longest, unit=ENCODINGS[encoding])
    assert found == [line if len(line) <= longest else None for line in expected]


def keep_ends(content: str) -> list[str]:
    """Only a line feed ends a line."""
    *whole, last = content.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])


@given(
    rows=st.lists(st.tuples(st.text('a",\r\n', max_size=9), st.text(max_size=3)), max_size=8),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    block=st.integers(1, 20).map(lambda units: 2 * units),
)
def test_a_line_break_between_quotes_ends_no_record(
    rows: list[tuple[str, str]], encoding: str, block: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    content = text.getvalue().encode(encoding, "surrogatepass")
    found = split(content, block=block, longest=10_000, unit=ENCODINGS[encoding], quotes=True)
    assert b"".join(record or b"" for record in found) == content
    assert len(found) == len(rows)


def test_a_part_of_a_file_is_split_up_to_its_end() -> None:
    stream = io.BytesIO(b"one\ntwo\nthree\nfour")
    assert list(splitting.records(stream, 4, 14, quotes=False)) == [b"two\n", b"three\n"]
