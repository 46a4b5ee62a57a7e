"""HTTP written by hand: requests that no client library sends, with little CPU time."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

HOST = "127.0.0.1"
PIECE = 65_536  # bytes read or written at once
CLOSE = b"connection: close"
CHUNKED = b"transfer-encoding: chunked"
LENGTH = b"content-length:"


@dataclass(frozen=True)
class Call:
    """A request: GET without a body, POST with one. The body is made when the attack begins."""

    path: str
    body: Callable[[], bytes] | None = None

    def request(self, *headers: str) -> bytes:
        """The whole request, with additional header lines."""
        body = b"" if self.body is None else self.body()
        return self.head(*headers, length=None if self.body is None else len(body)) + body

    def head(self, *headers: str, length: int | None = None) -> bytes:
        """The head alone, which announces `length` bytes."""
        lines = [f"{'GET' if length is None else 'POST'} {self.path} HTTP/1.1", "Host: x"]
        if length is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join([*lines, *headers, "", ""]).encode()


class Connection:
    """One connection to the service. Its errors are OSError and EOFError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ends = False

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection(HOST, port))

    @property
    def usable(self) -> bool:
        """Whether another request may follow: all is sent and neither end closes."""
        transport = self._writer.transport
        sent = transport.get_write_buffer_size() == 0
        return sent and not self._ends and not transport.is_closing()

    def send(self, data: bytes) -> None:
        """Send without waiting: the answer may come before all is sent."""
        self._writer.write(data)

    async def push(self, data: bytes) -> None:
        """Send as fast as the other end reads."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> str:
        """Read the whole answer; returns its status, and the code of an error."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        self._ends = CLOSE in head
        body = await self._body(head, keep=status >= 400)
        return f"{status} {_code(body)}".strip()

    async def closed(self) -> None:
        """Wait until the other end closes."""
        while await self._reader.read(PIECE):
            pass

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def abort(self) -> None:
        self._writer.transport.abort()

    async def _body(self, head: bytes, *, keep: bool) -> bytes:
        kept = bytearray()
        if CHUNKED in head:
            while length := int(await self._reader.readuntil(b"\r\n"), 16):
                kept += (await self._reader.readexactly(length + 2)) if keep else b""
                if not keep:
                    await self._skip(length + 2)
            await self._reader.readexactly(2)
        elif LENGTH in head:
            length = int(head.split(LENGTH)[1].split(b"\r\n")[0])
            if keep:
                return await self._reader.readexactly(length)
            await self._skip(length)
        return bytes(kept)

    async def _skip(self, length: int) -> None:
        while length:
            piece = await self._reader.read(min(length, PIECE))
            if not piece:
                raise EOFError("the answer ended too early")
            length -= len(piece)


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
