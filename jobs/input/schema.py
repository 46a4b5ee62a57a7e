"""The columns of the files and their types, checked before anything is embedded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs.errors import UsageError
from jobs.input import splitting
from jobs.input.files import TEXT_COLUMN, InputFile
from jobs.input.parquet import open_parquet
from jobs.input.rows import Columns
from jobs.input.text_format import csv_header
from jobs.location import Location
from jobs.output.columns import EMBEDDING, ID, ROW, TOKENS, TRUNCATED, WINDOWS


def types_of(source: Location, files: Sequence[InputFile], columns: Columns) -> dict[str, Any]:
    """The pyarrow.DataType of each column that is read.

    A line of JSONL may omit a value that may be null, so a title, a task or a kept column has to
    occur in one file only.

    Raises:
        UsageError: a column is missing, is not text where text is needed, or differs between files.
    """
    taken = {ROW, ID, EMBEDDING, TOKENS, WINDOWS, TRUNCATED} & set(columns.keep)
    if taken:
        raise UsageError(
            f"--keep cannot have {', '.join(sorted(taken))}: "
            "the output has its own column of that name"
        )
    types: dict[str, Any] = {}
    missing: dict[str, str] = {}  # by column, the message for when no file has it
    for file in files:
        found = columns_of(source, file)
        if found is None:
            continue
        for name in columns.names:
            if name in found:
                _add(types, name, found[name], file, files[0])
                continue
            missing[name] = (
                f"{file.path} has no column {name!r}; it has {', '.join(map(repr, found))}"
            )
            if file.format != "jsonl" or name in (columns.text, columns.id):
                raise UsageError(missing[name])
    for name in missing.keys() - types.keys():
        raise UsageError(missing[name])
    for name in filter(None, (columns.text, columns.title, columns.task)):
        _check_text(name, types.get(name, pa.string()))
    return {name: types.get(name, pa.string()) for name in columns.names}


def _add(types: dict[str, Any], name: str, kind: Any, file: InputFile, first: InputFile) -> None:
    if types.setdefault(name, kind) != kind:
        raise UsageError(
            f"column {name!r} is {kind} in {file.path} and {types[name]} in {first.path}"
        )


def _check_text(name: str, kind: Any) -> None:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UsageError(f"column {name!r} is {kind}, not text")


def columns_of(location: Location, file: InputFile) -> Mapping[str, Any] | None:
    """The columns of a file and their types, which are strings in all formats but Parquet.

    Columns of JSONL are those of its first lines that can be parsed. Returns None for a file
    without rows and header.
    """
    if file.format == "parquet":
        with open_parquet(location, file.path) as parquet:
            schema = parquet.schema_arrow
        return dict(zip(schema.names, schema.types, strict=True))
    names = _names(location, file)
    return None if names is None else dict.fromkeys(names, pa.string())


def _names(location: Location, file: InputFile) -> Sequence[str] | None:
    if file.size == 0:
        return None
    if file.format == "text":
        return [TEXT_COLUMN]
    if file.format == "csv":
        header = csv_header(location, file.path, file.text_format)
        return header.names if header.names or header.stop < file.size else None
    lines = [line for line in _first_lines(location, file) if line.strip()]
    found = [record for record in map(_parsed, lines) if record is not None]
    if lines and not found:
        raise UsageError(
            f"{file.path} is not JSONL: none of its first {len(lines)} lines is a JSON object"
        )
    return list(dict.fromkeys(name for record in found for name in record)) if lines else None


def _first_lines(location: Location, file: InputFile) -> Iterator[str]:
    """The lines of about one block, without lines that are too long."""
    text_format = file.text_format
    size = 0
    with location.filesystem.open_input_file(file.path) as stream:
        start = text_format.content_start(stream)
        for line in splitting.records(stream, start, quotes=False, unit=text_format.unit):
            if size >= splitting.BLOCK:
                return
            if line is not None:
                size += len(line)
                yield line.decode(text_format.encoding, "replace")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
