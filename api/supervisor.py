"""The process above the worker: restarts it when it ends, and forwards the signal to stop.

It is a program of its own, `python -I -S supervisor.py WORKER RESPAWN COMMAND...`, and imports the
standard library only: it uses 5 MB. BentoML's used 90 to 118, and obeyed any local user on a port.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

STOP = {signal.SIGTERM, signal.SIGINT}
WATCHED = STOP | {signal.SIGCHLD, signal.SIGALRM}  # blocked, and taken one by one
SUPERVISOR_PID = "SUPERVISOR_PID"  # environment variable of the worker
RESPAWN = "respawn"
UNFIT = 70  # exit status of a worker that can no longer serve: EX_SOFTWARE of sysexits.h
SIGNALLED = 128  # plus the signal's number, as shells report a process that a signal ended
STEADY = 10.0  # seconds after which the end of a worker is not a failed start
FIRST_PAUSE = 0.5  # seconds before the next try after a second failed start; doubled each time
LONGEST_PAUSE = 30.0


class Supervisor:
    """Watches one worker at a time.

    Args:
        worker: process id of the first worker, a child of this process.
        command: starts another worker.
        respawn: whether to start one; False in a container, which is restarted as a whole.
    """

    def __init__(self, worker: int, command: list[str], *, respawn: bool) -> None:
        self._worker: int | None = worker
        self._command = command
        self._respawn = respawn
        self._first = True
        self._stopping = False
        self._failures = 0
        self._began = time.monotonic()

    def run(self) -> int:
        """Watch until no worker follows; returns the exit status."""
        # On systems other than Linux the default action would drop the signal even while blocked.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            status = self._reap()
            if status is not None:
                if self._is_last(status):
                    return 0 if self._stopping else status or UNFIT
                self._replace(status)
            number = signal.sigwait(WATCHED)
            if number in STOP:
                if self._worker is None:
                    return 0
                self._stop(number)
            elif number == signal.SIGALRM:
                self._start()

    def _reap(self) -> int | None:
        """The worker's exit status, as shells report it, if it has ended.

        Orphans of other processes end here too if this is process 1 of a container.
        """
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._worker:
                    self._worker = None
                    status = os.waitstatus_to_exitcode(ended[1])
                    return status if status >= 0 else SIGNALLED - status
        except ChildProcessError:
            pass
        return None

    def _is_last(self, status: int) -> bool:
        """Whether no worker follows: a first one that exits early has reported a mistake."""
        by_itself = 0 < status < SIGNALLED and status != UNFIT
        broken = self._first and by_itself and not self._steady
        return self._stopping or not self._respawn or broken

    @property
    def _steady(self) -> bool:
        return time.monotonic() - self._began >= STEADY

    def _replace(self, status: int) -> None:
        pause = self._pause()
        _log("worker_ended", status=status, pause=pause)
        if pause:
            signal.setitimer(signal.ITIMER_REAL, pause)
        else:
            self._start()

    def _pause(self) -> float:
        """Seconds until the next worker: 0 at first, then doubled after each failed start."""
        self._failures = 0 if self._steady else self._failures + 1
        if self._failures <= 1:
            return 0.0
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures - 2))

    def _start(self) -> None:
        self._first, self._began = False, time.monotonic()
        command = self._command
        try:
            self._worker = os.posix_spawn(command[0], command, os.environ, setsigmask=())
        except OSError as error:  # out of memory or processes, which may pass
            _log("worker_cannot_be_started", reason=str(error))
            signal.setitimer(signal.ITIMER_REAL, self._pause() or FIRST_PAUSE)

    def _stop(self, number: int) -> None:
        """Send SIGTERM, and at a second signal that signal; Ctrl-C reaches the worker by itself."""
        if self._worker is not None:
            os.kill(self._worker, number if self._stopping else signal.SIGTERM)
        self._stopping = True


def supervise(work: Callable[[], NoReturn], command: list[str], *, respawn: bool) -> NoReturn:
    """Fork a first worker that runs `work`, and become the supervisor."""
    os.environ[SUPERVISOR_PID] = str(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, children could not be awaited
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)  # until the supervisor takes them
    worker = os.fork()
    if worker == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        work()
    own = [sys.executable, "-I", "-S", __file__, str(worker), RESPAWN if respawn else "once"]
    os.execv(sys.executable, [*own, *command])  # noqa: S606 (no shell is wanted)


def _log(message: str, **fields: object) -> None:
    line = json.dumps({"level": "warning", "message": message, **fields})
    os.write(2, f"{line}\n".encode())


if __name__ == "__main__":
    own = Supervisor(int(sys.argv[1]), sys.argv[3:], respawn=sys.argv[2] == RESPAWN)
    sys.exit(own.run())
