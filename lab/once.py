"""What the processes of a test run make once for all of them."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of `file`, and hold it."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(directory: Path, make: Callable[[Path], object]) -> Path:
    """The directory, which the first process that asks for it fills by `make`.

    After an error the next process tries again, in an empty directory.
    """
    complete = directory.with_name(f"{directory.name}.complete")
    with locked(directory.with_name(f"{directory.name}.lock")):
        if not complete.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            make(directory)
            complete.touch()
    return directory
