"""The rows of one part, each either fit to be embedded or with the reason why not."""

import json
from dataclasses import dataclass
from typing import Any

from jobs.errors import JobError, RowError
from jobs.parts import TEXT_COLUMN, Part
from jobs.places import Place
from jobs.readers import Record, Records


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


class Reader:
    """Rows of one input. Goes forward through a file where it can: each thread has one of its own."""

    def __init__(self, place: Place, columns: Columns) -> None:
        self._records, self._columns = Records(place, columns.names), columns

    def read(self, part: Part) -> tuple[list[Row], list[BadRow]]:
        """Rows of a part and the bad ones among them. Raises JobError when the file is not what it was or seems."""
        records = list(self._records.of(part))
        if len(records) != part.rows:
            raise JobError(
                f"{part.path} has {len(records)} records where {part.rows} lines were counted, from row "
                f"{part.file_row} on: it changed, or a quote stands in a field without quotes (RFC 4180 wants "
                '"5"" pipe")'
            )
        rows: list[Row] = []
        bad: list[BadRow] = []
        for offset, record in enumerate(records):
            try:
                rows.append(_row(part.first_row + offset, record, self._columns))
            except RowError as error:
                bad.append(bad_row(part, part.first_row + offset, error))
        return rows, bad


def bad_row(part: Part, number: int, error: RowError) -> BadRow:
    """Where the row `number` of the whole input stands, and why it is bad."""
    return BadRow(number, part.path, number - part.first_row + part.file_row, error.id, str(error))


def refused(part: Part, row: Row, error: RowError) -> BadRow:
    """A row that was read and cannot be embedded."""
    error.id = row.id
    return bad_row(part, row.number, error)


def _row(number: int, record: Record | RowError, columns: Columns) -> Row:
    if isinstance(record, RowError):
        raise record
    given = record.get(columns.id) if columns.id else None
    try:
        if columns.id and given is None:
            raise RowError(f"{columns.id} is null")
        for name in columns.names:
            _check_unicode(name, record.get(name))
        kept = {name: record.get(name) for name in columns.keep}
        title = _text(columns.title, record, optional=True)
        task = _text(columns.task, record, optional=True)
        return Row(number, _text(columns.text, record) or "", given, title, task, kept)
    except RowError as error:
        error.id = None if isinstance(given, list | dict) else given  # it may be what is wrong
        raise


def _text(name: str | None, record: Record, *, optional: bool = False) -> str | None:
    value = record.get(name) if name else None
    if optional and value is None:
        return None
    if value is None:
        raise RowError(f"{name} is null")
    if not isinstance(value, str):
        raise RowError(f"{name} is no text")
    if not value and not optional:
        raise RowError(f"{name} is empty")
    return value


def _check_unicode(name: str, value: Any) -> None:
    """Bytes that are not UTF-8 were read as lone surrogates, which JSON can also spell out at any depth."""
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, list | dict):
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise RowError(f"{name} is not valid UTF-8") from None
    except RecursionError:
        raise RowError(f"{name} is nested too deeply") from None
