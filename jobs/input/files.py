"""Input files: finding them, identifying their content, and how each is read."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from pyarrow import fs

from jobs.errors import UsageError, one_line
from jobs.input.text_format import PLAIN, TextFormat, check_options, text_format_of
from jobs.location import Location, locate

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
}
TEXT_COLUMN = "text"  # the name of the only column of a text file


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file, with what tells it from another content under the same path."""

    path: str
    format: str
    size: int  # bytes
    mtime_ns: int | None  # None where the filesystem has none
    text_format: TextFormat = PLAIN


def find_files(url: str, *, follow_links: bool = False) -> tuple[Location, list[InputFile]]:
    """The file at `url`, or every file of a known format below it.

    Returns:
        The location of `url`, and its files sorted by path.

    Raises:
        UsageError: there is no such file, or a directory has a symbolic link and `follow_links`
            is false.
    """
    location = locate(url)
    try:
        info = location.info()
        found = [info]
        if info.type == fs.FileType.Directory:
            found = _below(location, follow_links=follow_links)
    except OSError as error:
        raise UsageError(f"{url} cannot be read: {one_line(error)}") from error
    if info.type == fs.FileType.NotFound:
        raise UsageError(f"{url} does not exist")
    wanted = [one for one in found if one.type == fs.FileType.File and _is_data(one.path)]
    if not wanted:
        raise UsageError(
            f"{url} holds no file whose name ends in {', '.join(FORMATS)}; "
            "compressed text files are not read"
        )
    return location, [_identity(one) for one in wanted]


def _below(location: Location, *, follow_links: bool) -> list[Any]:
    if not location.is_local:
        return location.files(recursive=True)
    paths = [path for path in _walk(location.path, follow_links=follow_links) if _is_data(path)]
    found: list[Any] = location.filesystem.get_file_info(sorted(paths))
    return found


def _walk(top: str, *, follow_links: bool) -> Iterator[str]:
    """Files below a local directory; visits each directory once, however many links lead to it."""
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
                f"{directory}/{name} is a symbolic link, which may point outside INPUT: "
                "allow that with --follow-links, or remove the link"
            )


def _raise(error: OSError) -> None:
    raise error


def _is_data(path: str) -> bool:
    name = PurePosixPath(path)
    return name.suffix.lower() in FORMATS and not name.name.startswith(("_", "."))


def _identity(info: Any) -> InputFile:
    suffix = PurePosixPath(info.path).suffix.lower()
    return InputFile(info.path, FORMATS[suffix], info.size, info.mtime_ns)


def with_text_formats(
    location: Location,
    files: Sequence[InputFile],
    columns: Sequence[str],
    *,
    encoding: str | None,
    delimiter: str | None,
) -> list[InputFile]:
    """The files with their text formats.

    Args:
        location: where the files are.
        files: of any format; Parquet files are returned unchanged.
        columns: the columns that the job reads, by which the delimiter of CSV is detected.
        encoding: of text files; None to detect it.
        delimiter: of CSV files; None to detect it.

    Raises:
        UsageError: an option is invalid, or the encoding of a file cannot be detected.
    """
    check_options(encoding, delimiter)

    def formatted(file: InputFile) -> InputFile:
        if file.format == "parquet":
            return file
        found = text_format_of(
            location,
            file.path,
            columns=columns if file.format == "csv" else None,
            encoding=encoding,
            delimiter=delimiter,
        )
        return replace(file, text_format=found)

    return [formatted(file) for file in files]
