"""The rows of one part, each either fit to be embedded or with the reason why not."""

import json
from dataclasses import dataclass
from typing import Any

from embedder.blank import is_blank
from embedder.tasks import LONGEST_TITLE
from jobs.errors import JobError, RowError
from jobs.input.files import TEXT_COLUMN
from jobs.input.parts import Part
from jobs.input.records import Record, Records
from jobs.places import Place


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what."""

    text: str = TEXT_COLUMN
    id: str | None = None
    title: str | None = None
    task: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(
            dict.fromkeys(
                name for name in (self.text, self.id, self.title, self.task, *self.keep) if name
            )
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A row to embed. `number` counts from 0 through the whole input."""

    number: int
    text: str
    id: Any
    title: str | None
    task: str | None
    kept: Record


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that has no vector, and why; `file_row` counts from 0 in its file."""

    row: int
    file: str
    file_row: int
    id: Any
    reason: str


class RowReader:
    """Rows of one input. Goes forward through a file where it can: each thread has one of its own."""

    def __init__(self, place: Place, columns: Columns) -> None:
        self._records, self._columns = Records(place, columns.names), columns

    def read(self, part: Part) -> tuple[list[Row], list[BadRow]]:
        """Good and bad rows of a part. Raises JobError when the file has changed or breaks its format."""
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
                f"row {part.file_row} on: it changed meanwhile; give an OUTPUT of its own"
            )
        return rows, bad


def bad_row(part: Part, number: int, error: RowError) -> BadRow:
    """Where the row `number` of the whole input stands, and why it is bad."""
    return BadRow(number, part.path, number - part.first_row + part.file_row, error.id, str(error))


def refused(part: Part, row: Row, error: RowError) -> BadRow:
    """A row that was read and cannot be embedded."""
    error.id = row.id
    return bad_row(part, row.number, error)


def _row(number: int, record: Record | RowError, part: Part, columns: Columns) -> Row:
    if isinstance(record, RowError):
        raise record
    if part.file.format == "csv":
        record = _with_nulls(record, columns.text)
    flat = _flat if part.file.format == "jsonl" else _as_it_is
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
        error.id = None if isinstance(given, list | dict) else given  # it may be what is wrong
        raise


def _with_nulls(record: Record, text: str) -> Record:
    """CSV has no null: an empty cell stands for it, except where a text should be."""
    return {name: value if name == text else value or None for name, value in record.items()}


def _flat(value: Any) -> Any:
    """What JSON has besides strings is kept as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _as_it_is(value: Any) -> Any:
    return value


def _text(name: str, value: Any) -> str:
    text = _string(name, value)
    if text is None:
        raise RowError(f"{name} is null")
    if not text:
        raise RowError(f"{name} is empty")
    if is_blank(text):
        raise RowError(f"{name} is blank: it has white space and invisible characters alone")
    return text


def _title(name: str, value: Any) -> str | None:
    """None for a blank one: it is no title."""
    title = _string(name, value)
    if title is None or is_blank(title):
        return None
    if len(title) > LONGEST_TITLE:
        raise RowError(
            f"{name} has {len(title):,} characters, and a title at most {LONGEST_TITLE:,}"
        )
    return title


def _string(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise RowError(f"{name} is no text")


def _check_unicode(name: str, value: Any, part: Part) -> None:
    """Bytes of another encoding were read as lone surrogates, which JSON can also spell out at any depth."""
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, list | dict):
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        encoding = part.file.dialect.encoding.upper()
        raise RowError(f"{name} is not valid {encoding}") from None
    except RecursionError:
        raise RowError(f"{name} is nested too deeply") from None
