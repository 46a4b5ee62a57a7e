"""Lines of an input file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SKIPPED = 65_536  # bytes of a line that is too long, read at once


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        number: from 1.
        end: bytes of the file up to its end.
        content: without the line break; empty for a blank line.
        too_long: whether it is longer than a line may be; its content is dropped then.
    """

    number: int
    end: int
    content: bytes
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Amount:
    """How many lines to read at once: `lines`, or fewer if they have `n_bytes` together."""

    lines: int
    n_bytes: int


def read_lines(path: Path, amount: Amount, *, after: int, offset: int, longest: int) -> list[Line]:
    """The next lines of a file; none at its end. Blocks, so call it in a thread.

    Args:
        path: of the file.
        amount: how many.
        after: number of the line before.
        offset: where that line ends.
        longest: bytes of a line, at most.
    """
    lines: list[Line] = []
    taken = 0
    with path.open("rb") as file:
        file.seek(offset)
        while len(lines) < amount.lines and taken < amount.n_bytes:
            line = _next(file, number=after + len(lines) + 1, longest=longest)
            if line is None:
                break
            taken += len(line.content)
            lines.append(line)
    return lines


def _next(file: BinaryIO, *, number: int, longest: int) -> Line | None:
    content = file.readline(longest + 1)
    if not content:
        return None
    if len(content) <= longest or content.endswith(b"\n"):
        return Line(number, file.tell(), content.strip())
    piece = content
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(SKIPPED)
    return Line(number, file.tell(), b"", too_long=True)
