"""One thread of another process, held: what a forward pass that hangs looks like from outside."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SEIZE, _INTERRUPT, _CONT, _DETACH = 0x4206, 0x4207, 7, 17  # ptrace(2)
_ALL_THREADS = 0x40000000  # __WALL of waitpid(2)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) == -1:
        error = ctypes.get_errno()
        raise OSError(
            error, f"ptrace: {os.strerror(error)}; the tests hold a thread of a server they started"
        )


@contextmanager
def held(thread: int, others_run: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Stop `thread`, of a process below this one, until the end or until its process is gone.

    A thread that is stopped while it holds Python's GIL stops all others too. Where `others_run`
    says so, it goes on for a moment and is stopped elsewhere.
    """
    _ptrace(_SEIZE, thread)
    try:
        _stop(thread)
        deadline = time.monotonic() + 60
        while not others_run():
            assert time.monotonic() < deadline, "the other threads do not run"
            _ptrace(_CONT, thread)
            time.sleep(0.01)
            _stop(thread)
        yield
    finally:
        if Path(f"/proc/{thread}/stat").exists():
            try:
                _ptrace(_DETACH, thread)
            except ProcessLookupError:
                with suppress(ChildProcessError):  # its parent may be quicker
                    os.waitpid(thread, _ALL_THREADS)  # it ended while it was held: let it be buried


def _stop(thread: int) -> None:
    _ptrace(_INTERRUPT, thread)
    os.waitpid(thread, _ALL_THREADS)


def busiest_thread(pid: int, seconds: float = 0.3) -> int:
    """The thread of a process that uses most CPU now, besides its first."""
    before = _ticks(pid)
    time.sleep(seconds)
    after = _ticks(pid)
    return max(after.keys() - {pid}, key=lambda thread: after[thread] - before.get(thread, 0))


def _ticks(pid: int) -> dict[int, int]:
    """CPU time of each thread."""
    stats = {
        int(task.name): (task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
    }
    fields = {thread: stat.rsplit(")", 1)[1].split() for thread, stat in stats.items()}
    return {thread: int(field[11]) + int(field[12]) for thread, field in fields.items()}
