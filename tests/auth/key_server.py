"""A key server on the loopback interface that answers what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class KeyServer:
    """An HTTP server that answers what a test wants, byte by byte, and counts its requests."""

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
    """An HTTP answer, after a `pause` in seconds."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(pause)
        length = f"Content-Length: {len(body)}\r\n"
        head = f"HTTP/1.1 {status}\r\n{length}{headers}Connection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer
