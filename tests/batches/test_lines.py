"""Lines of a file, a few at a time."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batches.lines import Amount, Line, read_lines

LONGEST = 10


def all_lines(path: Path, amount: Amount) -> list[Line]:
    lines: list[Line] = []
    number = offset = 0
    while more := read_lines(path, amount, after=number, offset=offset, longest=LONGEST):
        lines += more
        number, offset = more[-1].number, more[-1].end
    return lines


@given(
    content=st.lists(st.sampled_from([b"a", b"bc", b" ", b"\n", b"\r\n", b"0123456789"])).map(
        b"".join
    ),
    lines=st.integers(1, 5),
    n_bytes=st.integers(1, 30),
)
def test_every_line_is_read_once_however_many_at_a_time(
    content: bytes, lines: int, n_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "file")
        path.write_bytes(content)
        found = all_lines(path, Amount(lines, n_bytes))
    expected = content.split(b"\n")[: content.count(b"\n") + (not content.endswith(b"\n"))]
    expected = expected if content else []
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    for line, whole in zip(found, expected, strict=True):
        assert line.too_long == (len(whole) > LONGEST)
        assert line.content == (b"" if line.too_long else whole.strip())
    assert not found or found[-1].end == len(content)
