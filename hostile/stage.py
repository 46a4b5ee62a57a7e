"""A running service for a row, and new users of it."""

import itertools
import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from hostile.row import ALIAS
from lab.key_server import KeyServer
from lab.server import ROOT, Server, serve, token

TOKENS_PER_DAY = 10**12  # never reached; with a limit /usage tells what was charged


class Child:
    """A process that reads orders, prints `ready`, begins when told, and finally reports."""

    def __init__(self, module: str, orders: Mapping[str, object]) -> None:
        self._module = module
        command = [sys.executable, "-m", f"hostile.{module}"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self.tell(json.dumps(orders))

    def wait_until_ready(self) -> None:
        assert self._read() == "ready\n", f"{self._module} did not start"

    def tell(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def report(self) -> str:
        """Wait for the last line that the process prints, and return it."""
        line = self._read()
        self._process.wait()
        return line

    def kill(self) -> None:
        """Kill the process if it still runs, and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@dataclass(frozen=True)
class Stage:
    """A running service, and the key server that signs its tokens."""

    server: Server
    keys: KeyServer | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def users(self, n: int) -> list[str]:
        """The tokens of `n` new users."""
        return [self._sign(f"00000000-0000-4000-8000-{next(self._numbers):012x}") for _ in range(n)]

    @contextmanager
    def child(self, module: str, **orders: object) -> Iterator[Child]:
        """A process with these orders and the port, killed at the end."""
        child = Child(module, orders | {"port": httpx.URL(self.server.url).port})
        try:
            yield child
        finally:
            child.kill()

    def _sign(self, user: str) -> str:
        if self.keys is None:
            return token(user, jti=str(uuid.uuid4()))
        return self.keys.sign(user=user)


@contextmanager
def staged(
    environment: Mapping[str, str], *, per_minute: int, hanging_keys: bool = False
) -> Iterator[Stage]:
    """Run a service.

    Args:
        environment: its settings.
        per_minute: its limit of requests.
        hanging_keys: sign tokens with a key server that hangs once the service has started.
    """
    settings = {
        "RATE_LIMIT_PER_MIN": str(per_minute),
        "TOKENS_PER_DAY": str(TOKENS_PER_DAY),
        "MODEL_ALIASES": ALIAS,
    }
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        keys = None
        if hanging_keys:
            keys = KeyServer()
            keys.start("first")
            stack.callback(keys.stop)
            settings["SUPABASE_URL"] = keys.url
        server = stack.enter_context(serve(directory / "log", settings | dict(environment)))
        if keys is not None:
            keys.hang()
        yield Stage(server, keys)
