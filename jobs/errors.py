"""Errors that end a job, and errors of one row. Each message is one line that says what to do."""

import errno
from typing import Any

from embedder.errors import EmbedderError

FAILED, WRONG_USE, SOME_ROWS_BAD = 1, 2, 3  # exit statuses; 0 is every row embedded
LONGEST_MESSAGE = 2000  # characters
NO_MEMORY = (
    "no memory is left: make room, and the same command resumes the job; "
    "a smaller --part-rows needs less, with another OUTPUT"
)


class JobError(Exception):
    """The job cannot continue; the same command resumes it."""

    status = FAILED


class UsageError(JobError):
    """The command is wrong: an option, a column or a path does not exist or does not fit."""

    status = WRONG_USE


class RowError(Exception):
    """One row cannot be embedded. `id` is the id of the row, where it is known."""

    id: Any = None


def one_line(error: BaseException) -> str:
    """The first non-empty line of an error's message, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def printable(text: str, *, most: int = 300) -> str:
    """Untrusted text as one line for a terminal: control characters escaped, `most` characters."""
    shown = "".join(char if char.isprintable() else _escaped(char) for char in text[:most])
    return f"{shown} ..." if len(text) > most else shown


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def describe(error: OSError) -> str:
    """A message for an error of the filesystem."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full ({one_line(error)}): make room, and the same command resumes the job"
        )
    return one_line(error)


def job_error(error: Exception, path: str, file_row: int) -> JobError:
    """The JobError for an exception while the part of `path` that begins at `file_row` is made."""
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
