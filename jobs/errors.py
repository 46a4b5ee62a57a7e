"""What ends a job. Each message is one line that says what to do."""

import errno

FAILED, WRONG_USE, SOME_ROWS_BAD = 1, 2, 3  # exit status; 0 is every row embedded


class JobError(Exception):
    """A job that cannot go on; the same command goes on where it ended."""

    status = FAILED


class UsageError(JobError):
    """A command that cannot work: a column, an option or a place that is not there."""

    status = WRONG_USE


def one_line(error: BaseException) -> str:
    """The first line of an error's message that says anything, or its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def describe(error: OSError) -> str:
    """What to do about an error of a file system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({one_line(error)}): make room, and the same command goes on"
    return one_line(error)
