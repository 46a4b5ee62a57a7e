"""How the characters and fields of a text file are stored: told by an option, or seen in its first block."""

import codecs
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from jobs.errors import UsageError, one_line
from jobs.input import splitting
from jobs.places import Place

UTF_8 = "utf-8"
MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, UTF_8: codecs.BOM_UTF8}
UNITS = {"utf-16-le": "<u2", "utf-16-be": ">u2"}  # numpy's; all others are looked at as bytes
# Codecs that write ASCII as itself and give it another meaning behind a shift.
STATEFUL = ("hz", "iso2022", "utf_7")
DELIMITERS = ",;\t|"
csv.field_size_limit(sys.maxsize)  # a record has a limit of its own
COMMON = "cp949 (Excel in Korean), cp1252 (Excel in Western Europe), utf-16, ..."


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a text file needs to be read."""

    encoding: str = UTF_8
    delimiter: str = ","  # of CSV

    @property
    def unit(self) -> str:
        """numpy's type of one line break."""
        return UNITS.get(self.encoding, "u1")

    def decode(self, content: bytes) -> str:
        """Bytes that are not of the encoding become lone surrogates.

        Raises UnicodeDecodeError for half a character of UTF-16.
        """
        errors = "surrogateescape" if self.unit == "u1" else "surrogatepass"
        return content.decode(self.encoding, errors)

    def content_start(self, stream: BinaryIO) -> int:
        """The offset of what follows a byte order mark."""
        stream.seek(0)
        mark = MARKS.get(self.encoding, b"\0")
        return len(mark) if stream.read(len(mark)) == mark else 0


PLAIN = Dialect()


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """Names of the columns, and the offset of the first record behind them."""

    names: list[str]
    stop: int


def check_options(encoding: str | None, delimiter: str | None) -> None:
    """Raises UsageError when no file can be read like that."""
    if encoding:
        _codec(encoding)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UsageError(f"--delimiter should be one character, not {delimiter!r}: ',', ';', ...")


def _codec(encoding: str) -> str:
    """Its name as Python writes it. UTF-16 without a byte order mark is as Windows writes it."""
    try:
        name = codecs.lookup(encoding).name
        name = {"utf-16": "utf-16-le", "utf-8-sig": UTF_8}.get(name, name)
        plain = '",;\n'.encode(name) == b'",;\n'
    except (LookupError, UnicodeError):
        raise UsageError(f"--encoding {encoding!r} is not known: try {COMMON}") from None
    if name not in UNITS and (not plain or name.startswith(STATEFUL)):
        raise UsageError(f"files in {encoding} are not read: convert them to UTF-8")
    return name


def dialect_of(
    place: Place,
    path: str,
    *,
    columns: Sequence[str] | None,
    encoding: str | None,
    delimiter: str | None,
) -> Dialect:
    """Of the file at `path`; `columns` are those that are wanted of a CSV file, None for other text.

    Raises UsageError when the encoding has to be told.
    """
    with place.filesystem.open_input_file(path) as stream:
        head = stream.read(splitting.BLOCK)
    found = Dialect(_encoding_of(path, head, encoding, has_header=columns is not None))
    if columns is None:
        return found
    if delimiter:
        return Dialect(found.encoding, delimiter)
    return _best_delimiter(place, path, found.encoding, columns)


def _encoding_of(path: str, head: bytes, given: str | None, *, has_header: bool) -> str:
    marked = next((name for name, mark in MARKS.items() if head.startswith(mark)), None)
    if given:
        name = _codec(given)
        return marked if marked in UNITS and name in UNITS else name
    if marked:
        return marked
    lines = [line for line in head.split(b"\n") if not line.isascii()]
    wrong = [line for line in lines[:-1] if not _is_utf_8(line)]  # the block may cut the last one
    in_header = has_header and not _is_utf_8(head.split(b"\n")[0])
    if (
        in_header
        or (len(wrong) > 1 and len(wrong) * 2 > len(lines))
        or b"\n\0" in head
        or b"\0\n" in head
    ):
        raise UsageError(
            f"{path} is not UTF-8: name its encoding with --encoding, such as {COMMON}; "
            "--encoding utf-8 lists the rows that are not as bad rows"
        )
    return UTF_8


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _best_delimiter(place: Place, path: str, encoding: str, columns: Sequence[str]) -> Dialect:
    """The first that gives every column, or else the one that gives most of any."""
    found: list[tuple[int, int, Dialect]] = []
    for delimiter in DELIMITERS:
        dialect = Dialect(encoding, delimiter)
        try:
            names = csv_header(place, path, dialect).names
        except UsageError:
            continue
        found.append((len(set(columns) & set(names)), len(names), dialect))
    best = max(found, key=lambda one: one[:2], default=None)  # the first of equals
    return best[2] if best else Dialect(encoding)


def csv_header(place: Place, path: str, dialect: Dialect) -> CsvHeader:
    """The first record of a CSV file.

    Raises UsageError when it is not exactly one record: rows that it swallowed would be lost
    without a word.
    """
    with place.filesystem.open_input_file(path) as stream:
        start = dialect.content_start(stream)
        stop = start + splitting.LONGEST + 1
        first = next(splitting.records(stream, start, stop, quotes=True, unit=dialect.unit), b"")
    try:
        if first is None:
            raise csv.Error(f"it does not end in {splitting.LONGEST:,} bytes")
        records = parse_csv(dialect.decode(first), dialect.delimiter)
        if len(records) > 1:
            raise csv.Error(f"it would swallow {len(records) - 1} lines behind it")
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} has no header that can be read ({one_line(error)}): lines end in a line feed, "
            'and a quote in a name wants quotes around it ("size ("")")'
        ) from error
    return CsvHeader(records[0] if records else [], start + len(first))


def parse_csv(text: str, delimiter: str) -> list[list[str]]:
    """Raises csv.Error when `text` is not what RFC 4180 says."""
    return list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter))
