"""A real uvicorn on uvloop with our connections, in front of a small application."""

import asyncio
import json
import socket
import threading
import time
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from api.edge import RequestRecord

GET = b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"v" * 65_536
PIECES = 512  # 32 MiB: more than two kernels take for a client who reads nothing
HEAD_TIMEOUT, ANSWER_TIMEOUT = 0.5, 1.5  # seconds


@dataclass
class Served:
    """An application that answers /ok, /read (headers and length of the body), /slow and /large."""

    port: int = 0
    in_flight: int = 0
    records: list[RequestRecord] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.in_flight += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self.in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces, body = [b"done"], b""
        if scope["path"] == "/slow":
            await asyncio.sleep(0.3)
        if scope["path"] == "/large":
            pieces = [PIECE] * PIECES
        if scope["path"] == "/read":
            more = True
            while more:
                message = await receive()
                body, more = body + message["body"], message["more_body"]
            names = [name.decode() for name, _ in scope["headers"]]
            pieces = [json.dumps({"headers": names, "bytes": len(body)}).encode()]
        length = b"%d" % sum(map(len, pieces))
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """A connection; the kernel keeps about `receive_buffer` bytes that were not read."""
        connection = socket.socket()
        connection.settimeout(10)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(("127.0.0.1", self.port))
        return connection


def read_to_end(connection: socket.socket) -> bytes:
    received = bytearray()
    try:
        while data := connection.recv(1 << 20):
            received += data
    except ConnectionResetError:
        pass
    return bytes(received)


def sent(served: Served, *parts: bytes) -> bytes:
    """Everything that the server answers to `parts`, until it closes."""
    with served.connect() as connection:
        sending = threading.Thread(target=_send, args=(connection, parts))
        sending.start()
        received = read_to_end(connection)
        sending.join(10)
    return received


def _send(connection: socket.socket, parts: tuple[bytes, ...]) -> None:
    try:
        for part in parts:
            connection.sendall(part)
    except OSError:
        pass  # the server has heard enough


def until(condition: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
