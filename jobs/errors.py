"""What ends a job, and what is wrong with one row. Each message is one line that says what to do."""

import errno
from typing import Any

from embedder.errors import EmbedderError

FAILED, WRONG_USE, SOME_ROWS_BAD = 1, 2, 3  # exit status; 0 is every row embedded
LONGEST_MESSAGE = 2000  # characters
NO_MEMORY = (
    "no memory is left: make room, and the same command goes on; "
    "a smaller --part-rows takes less, with an OUTPUT of its own"
)


class JobError(Exception):
    """A job that cannot go on; the same command goes on where it ended."""

    status = FAILED


class UsageError(JobError):
    """A command that cannot work: a column, an option or a place that is not there."""

    status = WRONG_USE


class RowError(Exception):
    """Why one row cannot be embedded. `id` is the row's, where it is known."""

    id: Any = None


def one_line(error: BaseException) -> str:
    """The first line of an error's message that says anything, or its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def printable(text: str, *, most: int = 300) -> str:
    """Text of others as one line for a terminal: control characters as escapes, and not too long."""
    shown = "".join(char if char.isprintable() else _escaped(char) for char in text[:most])
    return f"{shown} ..." if len(text) > most else shown


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def describe(error: OSError) -> str:
    """What to do about an error of a file system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({one_line(error)}): make room, and the same command goes on"
    return one_line(error)


def job_error(error: Exception, path: str, file_row: int) -> JobError:
    """What ends a job when the rows of `path` from `file_row` on cannot be made a part."""
    if isinstance(error, JobError):
        return error
    if isinstance(error, OSError):
        return JobError(describe(error))
    if isinstance(error, EmbedderError):
        return JobError(one_line(error))
    if isinstance(error, MemoryError):
        return JobError(NO_MEMORY)
    what = f"{type(error).__name__}: {one_line(error)}"
    return JobError(f"{path}, in the rows from {file_row} on: {what}")
