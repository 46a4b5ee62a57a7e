"""How a command ends: its status, and one line when something is wrong."""

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
from jobs.output.directory import BAD_ROWS, Output

INTERRUPTED = 130  # as a shell says of a program that Ctrl-C ended


def run_command(main: Callable[[], int]) -> int:
    """The exit status of `main`; an expected error becomes one line on stderr."""
    treat_sigterm_as_ctrl_c()
    try:
        return main()
    except KeyboardInterrupt:
        _say("stopped; the same command goes on", INTERRUPTED)
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # Python would wait for the part in the engine, which may be minutes
    except JobError as error:
        return _say(str(error), error.status)
    except OptionError as error:
        return _say(str(error), WRONG_USE)
    except OSError as error:
        return _say(describe(error), FAILED)
    except (EmbedderError, pa.ArrowException, NotImplementedError) as error:
        return _say(one_line(error), FAILED)


def treat_sigterm_as_ctrl_c() -> None:
    """Handle SIGTERM like Ctrl-C from here on. Ray installs its own handler when it connects."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_: int, frame: FrameType | None) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)  # asyncio has one of its own
    if not callable(on_interrupt):  # ignored, as in the background of a shell script
        raise KeyboardInterrupt
    on_interrupt(signal.SIGINT, frame)


def finish(output: Output, parts: Sequence[Part], said: Sequence[str], *, quiet: bool) -> int:
    """Check that no part is missing, collect the bad rows, print `said`, and return the exit status."""
    bad = output.finish(part.number for part in parts)
    lines = [*said]
    if bad:
        lines.append(f"{bad:,} rows have no vector: {(output.place / BAD_ROWS).path} says why")
    for line in [] if quiet else lines:
        print(printable(line, most=LONGEST_MESSAGE))
    return SOME_ROWS_BAD if bad else 0


def _say(message: str, status: int) -> int:
    print(f"embedding-api: {printable(message, most=LONGEST_MESSAGE)}", file=sys.stderr)
    return status
