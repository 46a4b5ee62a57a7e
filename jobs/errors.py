"""What ends a job, and what is wrong with one row. Each message is one line that says what to do."""

import errno
from typing import Any

FAILED, WRONG_USE, SOME_ROWS_BAD = 1, 2, 3  # exit status; 0 is every row embedded


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


def describe(error: OSError) -> str:
    """What to do about an error of a file system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({one_line(error)}): make room, and the same command goes on"
    return one_line(error)


def describe_row(error: BaseException, path: str, file_row: int) -> str:
    """What nobody foresaw in the rows of `path` from `file_row` on."""
    return f"{path}, in the rows from {file_row} on: {type(error).__name__}: {one_line(error)}"
