"""The process above the worker: replaces it when it ends, and passes on the order to stop.

Standard library alone, and a program of its own, `python -I -S supervisor.py WORKER RESPAWN
COMMAND...`: it holds 5 MB where BentoML's held 90 and took orders on a port from any local user.
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
SUPERVISOR_PID = "SUPERVISOR_PID"  # by this name in the environment of the worker
RESPAWN = "respawn"
UNFIT = 70  # what a worker ends with that could serve no more: EX_SOFTWARE of sysexits.h
SIGNALLED = 128  # and the signal's number: how a shell says what a process was ended by
STEADY = 10.0  # seconds after which a worker's end is no longer a failure to start
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before the next of several that failed to start


class Supervisor:
    """Of one worker at a time.

    Args:
        worker: the first worker's process id; a child of this process.
        command: what starts the next one.
        respawn: False in a container, where the container is what is restarted.
    """

    def __init__(self, worker: int, command: list[str], *, respawn: bool) -> None:
        self._worker: int | None = worker
        self._command, self._respawn = command, respawn
        self._first, self._stopping, self._failures = True, False, 0
        self._began = time.monotonic()

    def run(self) -> int:
        """Until the worker has ended for good; the exit status."""
        # Its default would be to drop the signal, blocked or not, on systems other than Linux.
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
        """The worker's status, as a shell would say it, if it has ended.

        Children of others end here too when this is process 1 of a container.
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
        """Nothing follows this end. A first worker that ended by itself has said why: a mistake."""
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
        """Seconds until the next worker: none at first, then twice as long each time."""
        self._failures = 0 if self._steady else self._failures + 1
        if self._failures <= 1:
            return 0.0
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures - 2))

    def _start(self) -> None:
        self._first, self._began = False, time.monotonic()
        command = self._command
        try:
            self._worker = os.posix_spawn(command[0], command, os.environ, setsigmask=())
        except OSError as error:  # no memory, no process left: both may pass
            _log("worker_cannot_be_started", reason=str(error))
            signal.setitimer(signal.ITIMER_REAL, self._pause() or FIRST_PAUSE)

    def _stop(self, number: int) -> None:
        """SIGTERM the first time: Ctrl-C reaches the worker by itself, and a second one presses."""
        if self._worker is not None:
            os.kill(self._worker, number if self._stopping else signal.SIGTERM)
        self._stopping = True


def supervise(work: Callable[[], NoReturn], command: list[str], *, respawn: bool) -> NoReturn:
    """Fork a first worker that does `work`, and become the supervisor of it and of what follows."""
    os.environ[SUPERVISOR_PID] = str(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children could not be waited for
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
