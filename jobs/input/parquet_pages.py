"""Headers of the pages of a Parquet column: their decoded sizes, before they are decoded.

A page is always decoded whole, and the sizes in the file's footer may be wrong. Headers are structs
in Thrift's compact protocol (github.com/apache/thrift, doc/specs/thrift-compact-protocol.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.errors import JobError

FIRST_READ = 256  # bytes
LONGEST_HEADER = 1 << 20  # bytes; a header may hold the smallest and the largest value of its page
DEEPEST = 8  # nested structs; a page header has three levels
DICTIONARY = 2  # a PageType
DELTA_BYTE_ARRAY = 7  # an Encoding: a value is a prefix of the previous one, and a suffix
# By field of the header (one per page type): the fields of its number of values and its encoding.
OF_VALUES = {5: (1, 2), 7: (1, 2), 8: (1, 4)}
# Field types of Thrift. A boolean is in the type itself.
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


@dataclass(frozen=True, slots=True)
class Page:
    """The contents of a page header."""

    kind: int  # PageType
    unpacked: int  # bytes, decoded
    packed: int  # bytes in the file
    values: int
    encoding: int

    @property
    def repeats(self) -> bool:
        """Whether the page may hold many values that are each about as long as the page."""
        return self.kind == DICTIONARY or self.encoding == DELTA_BYTE_ARRAY


class _Cut(Exception):
    """The bytes end before the header does."""


def pages(file: Any, path: str, chunk: Any) -> Iterator[Page]:
    """The pages of a column in a row group that a reader decodes.

    Raises:
        JobError: a page has no valid header.
    """
    position = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        position = min(position, chunk.dictionary_page_offset)
    stop = position + chunk.total_compressed_size
    seen = 0
    while seen < chunk.num_values and position < stop:
        page, length = _header(file, path, position)
        yield page
        seen += page.values if page.kind != DICTIONARY else 0
        position += length + page.packed


def _header(file: Any, path: str, position: int) -> tuple[Page, int]:
    """The page at a position of the file, and the length of its header in bytes."""
    size = FIRST_READ
    while True:
        content = file.read_at(size, position)
        try:
            header = _Header(content)
            page = _page(header.struct())
            if page is None:
                break
            return page, header.position
        except _Cut:
            if len(content) < size or size >= LONGEST_HEADER:
                break
            size *= 16
    raise JobError(f"{path} cannot be read as Parquet: a page has no header")


def _page(fields: dict[int, Any]) -> Page | None:
    """The page of a parsed header; None when a number is missing or negative."""
    numbers = [fields.get(field) for field in (1, 2, 3)]
    for field, (values, encoding) in OF_VALUES.items():
        if isinstance(of_values := fields.get(field), dict):
            numbers += [of_values.get(values), of_values.get(encoding)]
            break
    else:
        numbers += [0, 0]  # an index page
    known = [number for number in numbers if isinstance(number, int) and number >= 0]
    return Page(*known) if len(known) == len(numbers) else None


class _Header:
    """Parses a Thrift struct. Raises _Cut where the bytes end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Numbers and structs by field id."""
        if depth > DEEPEST:
            raise _Cut
        fields: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) != STOP:
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            fields[field] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind not in (BYTE, DOUBLE, BINARY):
            raise _Cut  # no page header has lists
        self._skip({BYTE: 1, DOUBLE: 8}.get(kind) or self._varint())
        return None

    def _byte(self) -> int:
        self._skip(1)
        return self._content[self.position - 1]

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self._content):
            raise _Cut

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise _Cut
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
