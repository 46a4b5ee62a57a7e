"""The rows of one part: rows to embed, and bad rows with their reasons."""

import json
from dataclasses import dataclass
from typing import Any

from embedder.blank import is_blank
from embedder.tasks import LONGEST_TITLE
from jobs.errors import JobError, RowError
from jobs.input.files import TEXT_COLUMN
from jobs.input.parts import Part
from jobs.input.record import Record
from jobs.input.records import RecordReader
from jobs.location import Location


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are read."""

    text: str = TEXT_COLUMN
    id: str | None = None
    title: str | None = None
    task: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every column, each once."""
        given = (self.text, self.id, self.title, self.task, *self.keep)
        return list(dict.fromkeys(name for name in given if name))


@dataclass(frozen=True, slots=True)
class Row:
    """A row to embed. `number` counts from 0 over the whole input."""

    number: int
    text: str
    id: Any
    title: str | None
    task: str | None
    kept: Record


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row without a vector, and the reason.

    `row` counts from 0 over the whole input, `file_row` from 0 in its file.
    """

    row: int
    file: str
    file_row: int
    id: Any
    reason: str


class RowReader:
    """Reads the rows of one input, forward through a file where possible. Not thread-safe."""

    def __init__(self, location: Location, columns: Columns) -> None:
        self._records = RecordReader(location, columns.names)
        self._columns = columns

    def read(self, part: Part) -> tuple[list[Row], list[BadRow]]:
        """Good and bad rows of a part.

        Raises:
            JobError: the file has changed, or cannot be read in its format.
        """
        rows: list[Row] = []
        bad: list[BadRow] = []
        for record in self._records.read(part):
            number = part.first_row + len(rows) + len(bad)
            try:
                rows.append(_row(number, record, part, self._columns))
            except RowError as error:
                bad.append(bad_row(part, number, error))
        if len(rows) + len(bad) != part.rows:
            raise JobError(
                f"{part.path} has {len(rows) + len(bad)} rows where {part.rows} were counted, from "
                f"row {part.file_row} on: the file has changed; give another OUTPUT"
            )
        return rows, bad


def bad_row(part: Part, number: int, error: RowError) -> BadRow:
    """The bad row with the number `number` in the whole input."""
    return BadRow(number, part.path, number - part.first_row + part.file_row, error.id, str(error))


def refused_row(part: Part, row: Row, error: RowError) -> BadRow:
    """The bad row for a row that was read and cannot be embedded."""
    error.id = row.id
    return bad_row(part, row.number, error)


def _row(number: int, record: Record | RowError, part: Part, columns: Columns) -> Row:
    if isinstance(record, RowError):
        raise record
    if part.file.format == "csv":
        record = _with_nulls(record, columns.text)
    flat = _flat if part.file.format == "jsonl" else _unchanged
    given = record.get(columns.id) if columns.id else None
    try:
        if columns.id and given is None:
            raise RowError(f"{columns.id} is null")
        for name in columns.names:
            _check_unicode(name, record.get(name), part)
        return Row(
            number,
            _text(columns.text, record.get(columns.text)),
            flat(given),
            _title(columns.title, record.get(columns.title)) if columns.title else None,
            _string(columns.task, record.get(columns.task)) if columns.task else None,
            {name: flat(record.get(name)) for name in columns.keep},
        )
    except RowError as error:
        error.id = None if isinstance(given, list | dict) else given  # the id itself may be wrong
        raise


def _with_nulls(record: Record, text: str) -> Record:
    """CSV has no null: an empty cell is read as null, except in the text column."""
    return {name: value if name == text else value or None for name, value in record.items()}


def _flat(value: Any) -> Any:
    """Lists and objects are stored as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _unchanged(value: Any) -> Any:
    return value


def _text(name: str, value: Any) -> str:
    text = _string(name, value)
    if text is None:
        raise RowError(f"{name} is null")
    if not text:
        raise RowError(f"{name} is empty")
    if is_blank(text):
        raise RowError(f"{name} is blank: it has only white space and invisible characters")
    return text


def _title(name: str, value: Any) -> str | None:
    """The title; None for a blank one."""
    title = _string(name, value)
    if title is None or is_blank(title):
        return None
    if len(title) > LONGEST_TITLE:
        raise RowError(f"{name} has {len(title):,} characters, a title may have {LONGEST_TITLE:,}")
    return title


def _string(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise RowError(f"{name} is not text")


def _check_unicode(name: str, value: Any, part: Part) -> None:
    """Refuse lone surrogates.

    Bytes that are invalid in the encoding are read as lone surrogates, and JSON can also escape
    them, at any depth.
    """
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, list | dict):
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        encoding = part.file.text_format.encoding.upper()
        raise RowError(f"{name} is not valid {encoding}") from None
    except RecursionError:
        raise RowError(f"{name} is nested too deeply") from None
