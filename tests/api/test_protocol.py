"""Connections of a real uvicorn on uvloop: what one of them may send, hold and leave unread."""

import asyncio
import json
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api import protocol
from api.bounds import MAX_CONNECTIONS, MAX_PIPELINED, READS_PER_TURN, connections_allowed
from api.edge import Edge, RequestRecord
from api.protocol import Connection
from api.refused import behind_connection
from api.turns import Turns
from api.waiting import Waiting
from request_state import state_of

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


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", HEAD_TIMEOUT)
    monkeypatch.setattr(Connection, "answer_timeout", ANSWER_TIMEOUT)
    monkeypatch.setattr(Connection, "turns", Turns(READS_PER_TURN))  # of this event loop
    app = Served()
    edge = Edge(behind_connection(app), routes=["/ok"], fingerprint="f", record=app.records.append)
    options: dict[str, Any] = {"ws": "none", "loop": "uvloop", "lifespan": "off"}
    config = uvicorn.Config(
        edge, http=Connection, log_level="error", timeout_keep_alive=1, **options
    )
    server = uvicorn.Server(config)
    app.connections = server.server_state.connections  # type: ignore[assignment]
    listener = socket.create_server(("127.0.0.1", 0))
    app.port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield app
    server.should_exit = server.force_exit = True
    thread.join(10)
    listener.close()


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


ENDLESS = b"v" * (1 << 20)
HEADS = {
    "many lines": (431, b"GET /ok HTTP/1.1\r\n", b"a:\r\n" * (1 << 18)),
    "one line": (431, b"GET /ok HTTP/1.1\r\nx: ", ENDLESS),
    "a name": (431, b"GET /ok HTTP/1.1\r\n", ENDLESS),
    "a url": (414, b"GET /", ENDLESS),
    "a method": (400, ENDLESS),
    "line breaks": (431, b"\r\n" * (1 << 19)),
    "a client hello of TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 1000),
    "a head of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a wrong url": (400, b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n"),
}


@pytest.mark.parametrize("case", HEADS.values(), ids=list(HEADS))
def test_a_head_beyond_its_bounds_is_refused_and_the_connection_closed(
    served: Served, case: tuple[int, bytes]
) -> None:
    status, *parts = case
    answer = sent(served, *parts, *parts[1:] * 20)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"x-request-id" in head
    assert json.loads(body)["error"]["message"]
    assert [record.status for record in served.records] == [status]


BODIES = {
    "an extension": (b"1;", ENDLESS),
    "extensions": (b"1;v=1234567890123456789012345678901234567890\r\na\r\n" * 10_000,),
    "chunks of a byte": (b"1\r\na\r\n" * 100_000,),
    "many trailers": (b"1\r\na\r\n0\r\n", b"a: b\r\n" * 200_000),
    "one trailer": (b"1\r\na\r\n0\r\nx: ", ENDLESS),
    "a wrong length": (b"xyz\r\n",),
}


@pytest.mark.parametrize("case", BODIES.values(), ids=list(BODIES))
def test_framing_beyond_its_bounds_is_refused_and_the_connection_closed(
    served: Served, case: tuple[bytes]
) -> None:
    answer = sent(served, CHUNKED, *case, *case[-1:] * 20)
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert b"connection: close" in answer
    assert len(served.records) == 1


def test_a_body_in_small_chunks_with_extensions_and_trailers_is_read(served: Served) -> None:
    chunk = b"a;name=value\r\n0123456789\r\n"
    body = b"0\r\nAuthorization: Bearer x\r\nx-checksum: 1\r\n\r\n"
    received = sent(
        served, CHUNKED, chunk * 1000, body, GET.replace(b"Host", b"Connection: close\r\nHost")
    )
    first = received.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0]
    assert json.loads(first) == {"headers": ["host", "transfer-encoding"], "bytes": 10_000}
    assert received.endswith(b"done")


def test_a_large_body_is_read_and_another_request_after_it(served: Served) -> None:
    size = 8 << 20
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    last = GET.replace(b"Host", b"Connection: close\r\nHost")
    received = sent(served, head, b"v" * size, last)
    assert b'"bytes": 8388608' in received
    assert received.endswith(b"done")


def test_a_head_of_usual_size_may_come_byte_by_byte(served: Served) -> None:
    with served.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET:
            connection.sendall(bytes([byte]))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_head_that_comes_too_slowly_is_ended(served: Served) -> None:
    """Each byte would begin the time again, if there were a time for each byte alone."""
    began = time.monotonic()
    with served.connect() as connection:
        for byte in GET * 2:
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - began < len(GET) * 0.05
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("drop", [b"", b"\r\n"])
def test_a_connection_on_which_no_request_begins_is_closed(served: Served, drop: bytes) -> None:
    with served.connect() as connection:
        deadline = time.monotonic() + 5
        connection.settimeout(0.1)
        while time.monotonic() < deadline:
            try:
                connection.sendall(drop)
                if not connection.recv(1000):
                    return
            except TimeoutError:
                pass
            except OSError:
                return
    raise AssertionError("it lives on")


def test_requests_that_wait_behind_another_are_answered_in_order_up_to_a_number(
    served: Served,
) -> None:
    slow = GET.replace(b"/ok", b"/slow")
    answer = sent(served, slow + GET * 10_000)
    assert answer.count(b"HTTP/1.1 200") == 1 + MAX_PIPELINED
    assert len(served.records) == 1 + MAX_PIPELINED


def test_a_wrong_request_behind_a_good_one_is_told_after_the_good_ones_answer(
    served: Served,
) -> None:
    slow = GET.replace(b"/ok", b"/slow")
    answer = sent(served, slow, b"nonsense\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]


def test_an_offer_of_another_protocol_is_ignored_and_with_a_body_refused(served: Served) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nHost"
    assert sent(served, GET.replace(b"Host", offer)).endswith(b"done")
    post = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    answer = sent(served, post.replace(b"Host", offer))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP_1_1" in answer


def some_of(connection: socket.socket, most: int) -> bytes:
    """What has arrived, `most` bytes of it at most."""
    data = connection.recv(most)
    assert data, "the connection was closed"
    return data


def test_a_client_who_reads_nothing_is_ended_and_its_place_is_free(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(GET.replace(b"/ok", b"/large"))
        until(lambda: served.in_flight == 1)
        began = time.monotonic()
        until(lambda: served.in_flight == 0)
        assert time.monotonic() - began > ANSWER_TIMEOUT / 2
        until(lambda: served.records)
        assert served.records[0].reason == "answer_unread"
        assert len(read_to_end(connection)) < PIECES * len(PIECE)


@pytest.mark.parametrize("size", [500, 65_536])
def test_a_client_who_reads_slowly_and_steadily_is_not_ended(served: Served, size: int) -> None:
    """At 25 kB per second, the buffer moves less often than it is looked at."""
    with served.connect(receive_buffer=4_096) as connection:
        connection.sendall(GET.replace(b"/ok", b"/large"))
        until = time.monotonic() + 3 * ANSWER_TIMEOUT
        while time.monotonic() < until:
            some_of(connection, size)
            time.sleep(0.02)
        assert served.in_flight == 1


def test_a_client_who_reads_slowly_at_first_gets_everything(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(GET.replace(b"/ok", b"/large"))
        until, received = time.monotonic() + 2 * ANSWER_TIMEOUT, 0
        while time.monotonic() < until:
            received += len(some_of(connection, 32_768))
            time.sleep(0.02)
        while received < PIECES * len(PIECE):
            received += len(some_of(connection, 1 << 20))


def test_what_is_left_of_an_answer_that_nobody_reads_is_given_back(served: Served) -> None:
    """The application is done with it, and nothing waits for the socket any more."""
    head = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served.connect() as connection:
        connection.sendall(head)
        received = 0
        while received < (PIECES - 8) * len(PIECE):
            received += len(some_of(connection, 1 << 16))
        until(lambda: served.records)
        assert served.records[0].reason is None
        until(lambda: not served.connections)


@pytest.mark.parametrize(
    ("files", "allowed"),
    [(512, 256), (1 << 20, MAX_CONNECTIONS), (resource.RLIM_INFINITY, MAX_CONNECTIONS)],
)
def test_half_of_the_files_are_left_for_other_things(
    monkeypatch: pytest.MonkeyPatch, files: int, allowed: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, files))
    assert connections_allowed() == allowed


def is_served(served: Served) -> bool:
    return sent(served, GET.replace(b"Host", b"Connection: close\r\nHost")).endswith(b"done")


@pytest.mark.parametrize("start", [b"", GET, GET[:-2]], ids=["idle", "kept alive", "half a head"])
def test_of_too_many_connections_those_that_wait_longest_are_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(Connection, "max_connections", 20)
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 10)
    with ExitStack() as stack:
        crowd = [stack.enter_context(served.connect()) for _ in range(20)]
        for connection in crowd:
            connection.sendall(start)
        if start == GET:
            until(lambda: len(served.records) == len(crowd))
        crowd += [stack.enter_context(served.connect()) for _ in range(20)]
        assert is_served(served)
        assert len(served.connections) <= 20
        for connection in crowd[:20]:
            connection.settimeout(0.5)
            read_to_end(connection)
        crowd[-1].sendall(GET)
        assert crowd[-1].recv(1000).startswith(b"HTTP/1.1 200")


def test_of_too_many_unread_answers_those_that_wait_longest_are_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "max_connections", 10)
    monkeypatch.setattr(Connection, "answer_timeout", 10)
    with ExitStack() as stack:
        for number in range(30):
            connection = stack.enter_context(served.connect())
            connection.sendall(GET.replace(b"/ok", b"/large"))
            until(lambda: len(served.records) + served.in_flight > number)  # noqa: B023
            assert connection.recv(1)
        assert is_served(served)
        assert served.in_flight <= 10


def test_heads_that_are_not_complete_are_bounded_on_all_connections(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "waiting", Waiting(max_bytes=200_000))
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 10)
    with ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(served.connect())
            connection.sendall(GET[:-2] + b"x: " + b"v" * 20_000)
        until(lambda: len(served.connections) <= 10)
        assert is_served(served)


def test_a_request_can_end_its_connection(served: Served) -> None:
    async def abort(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        state_of(scope).abort_connection()
        await send({"type": "http.response.body", "body": b"never"})

    served._answer = abort  # type: ignore[method-assign]
    assert b"never" not in sent(served, GET)
    assert served.records[0].reason == "answer_unread"
