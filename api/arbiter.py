"""Where `bentoml serve` would make a circus arbiter: the socket, the first worker, our supervisor.

Circus takes orders on a port without asking who gives them, and any local user could run commands
with it or read the environment. Here nothing listens but the service.
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
    """What BentoML's `serve` makes and starts; it does not return."""

    def __init__(
        self,
        watchers: Sequence[Any],
        *,
        sockets: Sequence[Any],
        plugins: Sequence[Any] = (),
        **_: Any,  # where circus would listen for orders, and how often it would look
    ) -> None:
        if plugins:
            sys.exit("embedding-api: --reload is not offered. Stop the server and start it again.")
        [self._watcher], [self._socket] = watchers, sockets
        self.exit_stack = ExitStack()  # BentoML puts there what it opens for the time of serving

    def start(self, cb: Callable[[Any], Any]) -> NoReturn:
        """Listen, fork into a worker, and become the supervisor.

        The worker is this process's copy, with all its imports done: start to ready took 1.9 s with
        a worker that did them again, and takes 1.0.
        """
        self._listen()
        self.exit_stack.close()
        cb(None)  # says where it listens
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
        """What starts another worker; circus's names for socket and number are filled in."""
        names = {
            f"$(circus.sockets.{self._socket.name})": str(self._socket.fileno()),
            "$(CIRCUS.WID)": "1",
        }
        return [sys.executable, *(names.get(argument, argument) for argument in self._watcher.args)]


def _serve(command: list[str]) -> NoReturn:
    """What `command` would do, in this process, and with the same log."""
    bento_log.SERVER_LOGGING_CONFIG["disable_existing_loggers"] = False  # all of ours exist already
    bento_log._component_name.cache_clear()  # it says `cli` so far
    serve_as_worker(command[command.index("-m") + 2 :])
    sys.exit()


def replace_arbiter() -> None:
    """Call before BentoML makes its own."""
    circus.Arbiter = Arbiter
