"""Input files: which they are, what tells each from another of its name, and how it is read."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from pyarrow import fs

from jobs.errors import UsageError, one_line
from jobs.input.text_format import PLAIN, Dialect, check_options, dialect_of
from jobs.places import Place, locate

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
}
TEXT_COLUMN = "text"  # what the one column of a text file is called


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file and what tells it from another of that name."""

    path: str
    format: str
    size: int  # bytes
    mtime_ns: int | None  # None where the filesystem has none
    dialect: Dialect = PLAIN


def find_files(url: str, *, follow_links: bool = False) -> tuple[Place, list[InputFile]]:
    """The file at `url`, or all of a known format below it, by path.

    Raises UsageError when there is none, and for a symbolic link in a directory unless they are
    followed.
    """
    place = locate(url)
    try:
        info = place.info()
        found = [info]
        if info.type == fs.FileType.Directory:
            found = _below(place, follow_links=follow_links)
    except OSError as error:
        raise UsageError(f"{url} cannot be read: {one_line(error)}") from error
    if info.type == fs.FileType.NotFound:
        raise UsageError(f"{url} is not there")
    wanted = [one for one in found if one.type == fs.FileType.File and _is_data(one.path)]
    if not wanted:
        raise UsageError(
            f"{url} holds no file whose name ends in {', '.join(FORMATS)}; compressed text is not read"
        )
    return place, [_identity(one) for one in wanted]


def _below(place: Place, *, follow_links: bool) -> list[Any]:
    if not place.is_local:
        return place.files(recursive=True)
    paths = [path for path in _walk(place.path, follow_links=follow_links) if _is_data(path)]
    found: list[Any] = place.filesystem.get_file_info(sorted(paths))
    return found


def _walk(top: str, *, follow_links: bool) -> Iterator[str]:
    """Files of a local directory; each directory once, however many links lead to it."""
    seen = set[str]()
    for directory, below, names in os.walk(top, followlinks=follow_links, onerror=_raise):
        if not follow_links:
            _refuse_links(directory, below, names)
        real = os.path.realpath(directory)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (f"{directory}/{name}" for name in names)


def _refuse_links(directory: str, below: Sequence[str], names: Sequence[str]) -> None:
    for name in (*below, *filter(_is_data, names)):
        if os.path.islink(f"{directory}/{name}"):
            raise UsageError(
                f"{directory}/{name} is a symbolic link, which may lead out of INPUT: "
                "give --follow-links if it may, or remove it"
            )


def _raise(error: OSError) -> None:
    raise error


def _is_data(path: str) -> bool:
    name = PurePosixPath(path)
    return name.suffix.lower() in FORMATS and not name.name.startswith(("_", "."))


def _identity(info: Any) -> InputFile:
    suffix = PurePosixPath(info.path).suffix.lower()
    return InputFile(info.path, FORMATS[suffix], info.size, info.mtime_ns)


def with_dialects(
    place: Place,
    files: Sequence[InputFile],
    columns: Sequence[str],
    *,
    encoding: str | None,
    delimiter: str | None,
) -> list[InputFile]:
    """The files, each with how it is read. `columns` are those that are wanted.

    Raises UsageError for an option that no file can be read with, and for a file that needs one.
    """
    check_options(encoding, delimiter)
    return [
        replace(
            file,
            dialect=dialect_of(
                place,
                file.path,
                columns=columns if file.format == "csv" else None,
                encoding=encoding,
                delimiter=delimiter,
            ),
        )
        if file.format != "parquet"
        else file
        for file in files
    ]
