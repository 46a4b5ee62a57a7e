"""Encoding and delimiter of a text file: given by an option, or detected in its first block."""

import codecs
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from jobs.errors import UsageError, one_line
from jobs.input import splitting
from jobs.location import Location

UTF_8 = "utf-8"
MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, UTF_8: codecs.BOM_UTF8}
UNITS = {"utf-16-le": "<u2", "utf-16-be": ">u2"}  # numpy types; other encodings are split as bytes
# Codecs whose ASCII bytes mean other characters after a shift sequence.
STATEFUL = ("hz", "iso2022", "utf_7")
DELIMITERS = ",;\t|"
csv.field_size_limit(sys.maxsize)  # the length of a record is limited elsewhere
COMMON = "cp949 (Excel in Korean), cp1252 (Excel in Western Europe), utf-16, ..."


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a text file is decoded and split into fields."""

    encoding: str = UTF_8
    delimiter: str = ","  # of CSV

    @property
    def unit(self) -> str:
        """numpy's type of one line break."""
        return UNITS.get(self.encoding, "u1")

    def decode(self, content: bytes) -> str:
        """Decode; invalid bytes become lone surrogates.

        Raises:
            UnicodeDecodeError: an incomplete code unit of UTF-16.
        """
        errors = "surrogateescape" if self.unit == "u1" else "surrogatepass"
        return content.decode(self.encoding, errors)

    def content_start(self, stream: BinaryIO) -> int:
        """The offset of the content, after a byte order mark if there is one."""
        stream.seek(0)
        mark = MARKS.get(self.encoding, b"\0")
        return len(mark) if stream.read(len(mark)) == mark else 0


PLAIN = TextFormat()


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """Names of the columns, and the offset of the first record after them."""

    names: list[str]
    stop: int


def check_options(encoding: str | None, delimiter: str | None) -> None:
    """Raises UsageError when the encoding or the delimiter is invalid."""
    if encoding:
        _codec(encoding)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UsageError(f"--delimiter should be one character, not {delimiter!r}: ',', ';', ...")


def _codec(encoding: str) -> str:
    """Python's name of an encoding. UTF-16 without a byte order mark is little-endian."""
    try:
        name = codecs.lookup(encoding).name
        name = {"utf-16": "utf-16-le", "utf-8-sig": UTF_8}.get(name, name)
        plain = '",;\n'.encode(name) == b'",;\n'
    except (LookupError, UnicodeError):
        raise UsageError(f"--encoding {encoding!r} is not known: try {COMMON}") from None
    if name not in UNITS and (not plain or name.startswith(STATEFUL)):
        raise UsageError(f"files in {encoding} are not read: convert them to UTF-8")
    return name


def text_format_of(
    location: Location,
    path: str,
    *,
    columns: Sequence[str] | None,
    encoding: str | None,
    delimiter: str | None,
) -> TextFormat:
    """The text format of a file.

    Args:
        location: where the file is.
        path: of the file.
        columns: the columns that the job reads of a CSV file; None for other text files.
        encoding: given by the user; None to detect it.
        delimiter: given by the user; None to detect it.

    Raises:
        UsageError: the encoding cannot be detected.
    """
    with location.filesystem.open_input_file(path) as stream:
        head = stream.read(splitting.BLOCK)
    found = TextFormat(_encoding_of(path, head, encoding, has_header=columns is not None))
    if columns is None:
        return found
    if delimiter:
        return TextFormat(found.encoding, delimiter)
    return _best_delimiter(location, path, found.encoding, columns)


def _encoding_of(path: str, head: bytes, given: str | None, *, has_header: bool) -> str:
    marked = next((name for name, mark in MARKS.items() if head.startswith(mark)), None)
    if given:
        name = _codec(given)
        return marked if marked in UNITS and name in UNITS else name
    if marked:
        return marked
    lines = [line for line in head.split(b"\n") if not line.isascii()]
    wrong = [line for line in lines[:-1] if not _is_utf_8(line)]  # the last may be incomplete
    in_header = has_header and not _is_utf_8(head.split(b"\n")[0])
    if (
        in_header
        or (len(wrong) > 1 and len(wrong) * 2 > len(lines))
        or b"\n\0" in head
        or b"\0\n" in head
    ):
        raise UsageError(
            f"{path} is not UTF-8: name its encoding with --encoding, such as {COMMON}; "
            "--encoding utf-8 reports invalid rows as bad rows"
        )
    return UTF_8


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _best_delimiter(
    location: Location, path: str, encoding: str, columns: Sequence[str]
) -> TextFormat:
    """The delimiter whose header has most of the columns, then the one with most columns."""
    found: list[tuple[int, int, TextFormat]] = []
    for delimiter in DELIMITERS:
        text_format = TextFormat(encoding, delimiter)
        try:
            names = csv_header(location, path, text_format).names
        except UsageError:
            continue
        found.append((len(set(columns) & set(names)), len(names), text_format))
    best = max(found, key=lambda one: one[:2], default=None)
    return best[2] if best else TextFormat(encoding)


def csv_header(location: Location, path: str, text_format: TextFormat) -> CsvHeader:
    """The first record of a CSV file.

    Raises:
        UsageError: it is not exactly one record; the rows in it would be lost silently.
    """
    with location.filesystem.open_input_file(path) as stream:
        start = text_format.content_start(stream)
        stop = start + splitting.LONGEST + 1
        first = next(
            splitting.records(stream, start, stop, quotes=True, unit=text_format.unit), b""
        )
    try:
        if first is None:
            raise csv.Error(f"it does not end in {splitting.LONGEST:,} bytes")
        records = parse_csv(text_format.decode(first), text_format.delimiter)
        if len(records) > 1:
            raise csv.Error(f"it would swallow {len(records) - 1} lines after it")
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} has no valid header ({one_line(error)}): lines end in a line feed, "
            'and a name with a quote is written in quotes ("size ("")")'
        ) from error
    return CsvHeader(records[0] if records else [], start + len(first))


def parse_csv(text: str, delimiter: str) -> list[list[str]]:
    """The records of `text`. Raises csv.Error when it is not valid by RFC 4180."""
    return list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter))
