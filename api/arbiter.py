"""Replaces BentoML's circus arbiter: opens the socket, forks the first worker, supervises it.

Circus takes commands on a local port without authentication: any local user could run programs or
read the environment through it. Here only the service listens.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from _bentoml_impl.worker.service import main as serve_as_worker
from bentoml._internal import log as bento_log
from bentoml._internal.utils import circus

from api.supervisor import supervise


class Arbiter:
    """BentoML's `serve` makes and starts one; `start` does not return."""

    def __init__(
        self,
        watchers: Sequence[Any],
        *,
        sockets: Sequence[Any],
        plugins: Sequence[Any] = (),
        **_: Any,  # circus's command port and intervals
    ) -> None:
        if plugins:
            sys.exit("embedding-api: --reload is not offered. Stop the server and start it again.")
        [self._watcher], [self._socket] = watchers, sockets
        self.exit_stack = ExitStack()  # BentoML puts there what it opens for the time of serving

    def start(self, cb: Callable[[Any], Any]) -> NoReturn:
        """Listen, fork a worker, and become its supervisor.

        The worker is a copy of this process with all its imports done: start to ready takes 1.0 s,
        against 1.9 s with a worker that imports again.
        """
        self._listen()
        self.exit_stack.close()
        cb(None)  # prints the address
        command = self._command()
        os.environ.update(self._watcher.env)
        os.chdir(self._watcher.working_dir)
        supervise(lambda: _serve(command), command, respawn=self._watcher.respawn)

    def _listen(self) -> None:
        try:
            self._socket.bind_and_listen()
        except OSError as error:
            where = f"{self._socket.host}:{self._socket.port}"
            sys.exit(f"embedding-api: cannot listen on {where} ({error.strerror})")

    def _command(self) -> list[str]:
        """The command of another worker, with circus's placeholders filled in."""
        names = {
            f"$(circus.sockets.{self._socket.name})": str(self._socket.fileno()),
            "$(CIRCUS.WID)": "1",
        }
        return [sys.executable, *(names.get(argument, argument) for argument in self._watcher.args)]


def _serve(command: list[str]) -> NoReturn:
    """Run what `command` would run, in this process and with the same log."""
    bento_log.SERVER_LOGGING_CONFIG["disable_existing_loggers"] = False  # ours exist already
    bento_log._component_name.cache_clear()  # it has cached `cli`
    serve_as_worker(command[command.index("-m") + 2 :])
    sys.exit()


def replace_arbiter() -> None:
    """Make BentoML use this arbiter; call before `bentoml serve` makes its own."""
    circus.Arbiter = Arbiter
