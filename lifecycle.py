"""Ends a worker: from SIGTERM to its last answer, or at once if it can no longer serve."""

import asyncio
import contextlib
import logging
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from errors import Overloaded

LOG = logging.getLogger("embedding_api")
CHECK_INTERVAL = 1.0  # seconds between checks of the engine and the parent
LAST_ANSWERS = 0.5  # seconds for answers that are ready to be sent
LAST_RESORT = 5.0  # seconds that the server may take to close after the last answer
UNFIT = 70  # exit status: EX_SOFTWARE of sysexits.h


class Lifecycle:
    """The end of one worker process, under a server with signal handlers of its own (uvicorn).

    After SIGTERM requests in flight are finished, while probes and new requests get 503. Then the
    server's own handler runs. If the `parent` process ends, this one stops too: nothing else would
    end it, and it would keep the port.

    Args:
        shutdown_timeout: seconds for requests in flight; those that wait longer get 503.
        loop_timeout: seconds without a turn of the event loop after which the process ends.
        parent: process id of the supervisor.
    """

    def __init__(self, *, shutdown_timeout: float, loop_timeout: float, parent: int) -> None:
        self._timeout = shutdown_timeout
        self._loop_timeout = loop_timeout
        self._turns = 0  # of the loop
        self._handlers: dict[int, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._parent = parent
        self.stopping = False
        self.in_flight: Callable[[], int] = lambda: 0  # set when the gate is made
        self._check: Callable[[], None] = lambda: None
        self._abandon: Callable[[Exception], None] = lambda _: None

    def start(self, *, check: Callable[[], None], abandon: Callable[[Exception], None]) -> None:
        """Replace the server's signal handlers and begin to watch; needs a running event loop.

        Args:
            check: raises if the process can no longer serve.
            abandon: raises the error that it is given in every request that waits.
        """
        self._loop = asyncio.get_running_loop()
        self._check = check
        self._abandon = abandon
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._signalled)
        self._keep(self._watch())
        threading.Thread(target=self._watch_loop, name="watchdog", daemon=True).start()
        _raise_fd_limit()

    def refuse_when_stopping(self) -> None:
        """Raises Overloaded after a signal to stop."""
        if self.stopping:
            raise _stopping()

    async def give_up(self, why: str, error: Exception) -> None:
        """Answer `error` to every request that waits, and end the process for a restart.

        Args:
            why: message of the log line.
            error: the reason, for the log and for those who wait.
        """
        reason = str(error) or type(error).__name__
        fields = {"reason": reason, "abandoned": self.in_flight()}
        LOG.critical(why, extra={"fields": fields})
        self.stopping = True
        self._abandon(error)
        await asyncio.sleep(LAST_ANSWERS)
        os._exit(UNFIT)  # any other way would wait for a thread that hangs

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            self._loop.call_soon_threadsafe(self._keep, self._drain(number))
        elif number == signal.SIGINT:
            # A second Ctrl-C; the supervisor sends SIGTERM after the first.
            self._handlers[number](number, frame)

    async def _drain(self, number: int) -> None:
        fields = {"in_flight": self.in_flight(), "seconds": self._timeout}
        LOG.info("stopping", extra={"fields": fields})
        deadline = time.monotonic() + self._timeout
        while self.in_flight() and time.monotonic() < deadline:  # noqa: ASYNC110 (no event)
            await asyncio.sleep(0.05)
        if abandoned := self.in_flight():
            LOG.warning("shutdown_timeout", extra={"fields": {"abandoned": abandoned}})
            self._abandon(_stopping())
        last = threading.Timer(LAST_RESORT, os._exit, (UNFIT,))
        last.daemon = True
        last.start()
        handler = self._handlers[number]
        await _stop_listening(handler.__self__.servers)
        await asyncio.sleep(LAST_ANSWERS)
        handler(number, None)

    async def _watch(self) -> None:
        while not self.stopping:
            await asyncio.sleep(CHECK_INTERVAL)
            self._turns += 1
            if os.getppid() != self._parent:
                LOG.error("supervisor_gone: this process stops, as nothing else would end it")
                self._signalled(signal.SIGTERM, None)
            try:
                self._check()
            except Exception as error:
                if not self.stopping:
                    await self.give_up("worker_given_up", error)

    def _watch_loop(self) -> None:
        """Counts checks, not seconds: when a suspended machine resumes, nothing has stalled."""
        seen = -1
        checks = 0  # since the last turn
        while not self.stopping:
            time.sleep(CHECK_INTERVAL)
            checks = checks + 1 if seen == self._turns else 0
            seen = self._turns
            if checks * CHECK_INTERVAL > self._loop_timeout:
                # Not through the log, whose lock the stalled thread may hold.
                os.write(2, b'{"level":"critical","message":"event_loop_stalled"}\n')
                os._exit(UNFIT)

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _raise_fd_limit() -> None:
    """Allow as many open files as the system does, one per connection.

    Most shells start processes with a limit of 1,024: 1,100 idle connections shut all others out.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _stop_listening(servers: list[asyncio.Server]) -> None:
    """Have the kernel refuse new connections.

    Closing alone would not do it: the supervisor's copy of the socket stays open.
    """
    listening = (sock for server in servers for sock in server.sockets)
    # Each socket once, not each copy: Linux does not listen again to what was shut down twice.
    distinct = {os.fstat(sock.fileno()).st_ino: sock for sock in listening}
    sockets = [socket.socket(fileno=os.dup(sock.fileno())) for sock in distinct.values()]
    await _accept_backlog(sockets)
    for server in servers:
        server.close()
    for sock in sockets:
        # Not every system lets a listening socket be shut down.
        with sock, contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


async def _accept_backlog(sockets: list[socket.socket]) -> None:
    """Accept the connections that wait in the kernel's queue, which would be reset otherwise.

    libuv accepts one of them per turn of the event loop, so this waits turn by turn.
    """
    queued = select.poll()
    deadline = time.monotonic() + LAST_ANSWERS
    for sock in sockets:
        queued.register(sock, select.POLLIN)
    while queued.poll(0) and time.monotonic() < deadline:  # noqa: ASYNC110 (no event)
        await asyncio.sleep(0)


def _stopping() -> Overloaded:
    return Overloaded(
        "The service is stopping. Try again in a few seconds.", retry_after=5, reason="stopping"
    )
