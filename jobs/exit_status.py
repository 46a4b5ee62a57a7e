"""Exit statuses of the commands, and the one line that explains a failure."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import pyarrow as pa

from embedder.errors import EmbedderError, OptionError
from jobs.errors import (
    FAILED,
    LONGEST_MESSAGE,
    SOME_ROWS_BAD,
    WRONG_USE,
    JobError,
    describe,
    one_line,
    printable,
)
from jobs.input.parts import Part
from jobs.output.directory import BAD_ROWS, OutputDirectory

INTERRUPTED = 130  # as a shell says of a program that Ctrl-C ended


def run_command(main: Callable[[], int]) -> int:
    """Run `main` and return its exit status; an expected error becomes one line on stderr."""
    treat_sigterm_as_ctrl_c()
    try:
        return main()
    except KeyboardInterrupt:
        _say("stopped; the same command resumes the job", INTERRUPTED)
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # sys.exit waits for the engine's thread, which may take minutes
    except JobError as error:
        return _say(str(error), error.status)
    except OptionError as error:
        return _say(str(error), WRONG_USE)
    except OSError as error:
        return _say(describe(error), FAILED)
    except (EmbedderError, pa.ArrowException, NotImplementedError) as error:
        return _say(one_line(error), FAILED)


def treat_sigterm_as_ctrl_c() -> None:
    """Handle SIGTERM like Ctrl-C. Call it again after Ray has installed its own handler."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_: int, frame: FrameType | None) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)  # asyncio installs its own
    if not callable(on_interrupt):  # SIGINT is ignored in background jobs of a shell script
        raise KeyboardInterrupt
    on_interrupt(signal.SIGINT, frame)


def finish(
    output: OutputDirectory, parts: Sequence[Part], said: Sequence[str], *, quiet: bool
) -> int:
    """Check that no part is missing, collect the bad rows and print the lines of `said`.

    Returns the exit status: 0, or 3 when some rows are bad. Raises JobError when a part is missing.
    """
    bad = output.finish(part.number for part in parts)
    lines = [*said]
    if bad:
        lines.append(f"{bad:,} rows have no vector: {(output.location / BAD_ROWS).path} says why")
    for line in [] if quiet else lines:
        print(printable(line, most=LONGEST_MESSAGE))
    return SOME_ROWS_BAD if bad else 0


def _say(message: str, status: int) -> int:
    print(f"embedding-api: {printable(message, most=LONGEST_MESSAGE)}", file=sys.stderr)
    return status
