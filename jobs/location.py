"""Where files are: a local path, or a URL of any filesystem that pyarrow or fsspec supports."""

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from jobs.errors import UsageError, one_line


@dataclass(frozen=True, slots=True)
class Location:
    """A path on a filesystem. It can be pickled, for workers on other machines."""

    filesystem: Any  # pyarrow.fs.FileSystem
    path: str

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's file system."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def info(self) -> Any:
        """pyarrow's FileInfo: type, size in bytes, mtime."""
        return self.filesystem.get_file_info(self.path)

    def exists(self) -> bool:
        """Whether something is there."""
        return bool(self.info().type != fs.FileType.NotFound)

    def is_in(self, other: "Location") -> bool:
        """Whether this is `other` or below it, with symbolic links of local paths resolved."""
        if not self.filesystem.equals(other.filesystem):
            return False
        paths = [location.path.rstrip("/") for location in (self, other)]
        if self.is_local:
            paths = [os.path.realpath(path) for path in paths]
        return f"{paths[0]}/".startswith(f"{paths[1]}/")

    def files(self, *, recursive: bool = False) -> list[Any]:
        """pyarrow's FileInfo of each file in this directory, by path; empty if it is missing."""
        found = self.filesystem.get_file_info(
            fs.FileSelector(self.path, recursive=recursive, allow_not_found=True)
        )
        return sorted(
            (info for info in found if info.type == fs.FileType.File), key=lambda info: info.path
        )

    def read(self) -> bytes:
        """Its whole content."""
        with self.filesystem.open_input_file(self.path) as file:
            content: bytes = file.read()
        return content

    def write(self, chunks: Iterable[bytes]) -> None:
        """Write the file atomically: readers see the old content, or all of `chunks`."""
        name = f"{UNFINISHED}{self.name}.{secrets.token_hex(4)}"
        unfinished = Location(self.filesystem, f"{os.path.dirname(self.path)}/{name}")
        try:
            with self.filesystem.open_output_stream(unfinished.path) as file:
                for chunk in chunks:
                    file.write(chunk)
            if self.is_local:
                _sync(unfinished.path)
            self.filesystem.move(unfinished.path, self.path)
        except BaseException:
            unfinished.remove()
            raise

    def remove(self) -> None:
        """Delete the file if it exists."""
        if self.exists():
            self.filesystem.delete_file(self.path)


UNFINISHED = ".unfinished-"  # readers of Parquet directories skip names that begin with a dot


def locate(url: str) -> Location:
    """The location of a path or URL. Raises UsageError when no filesystem supports it."""
    if "://" not in url:
        return Location(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(url)))
    try:
        return Location(*fs.FileSystem.from_uri(url))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # not a filesystem of Arrow; fsspec has more
    except OSError as error:
        raise UsageError(f"{url} cannot be reached: {one_line(error)}") from error
    import fsspec.implementations.local

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{url} cannot be reached: {one_line(error)}") from error
    if isinstance(filesystem, fsspec.implementations.local.LocalFileSystem):
        return Location(fs.LocalFileSystem(), path)
    return Location(fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path)


def _sync(path: str) -> None:
    """Flush a file to disk before it is renamed, so that it is complete after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
