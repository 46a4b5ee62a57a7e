"""Connections that send or read as no client should, to the whole service."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from lab.server import Server, serve, token
from tests.live.test_metrics import value

MB = 1_000_000
ANSWER_TIMEOUT = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "RATE_LIMIT_PER_MIN": "100000",
        "ANSWER_TIMEOUT": str(ANSWER_TIMEOUT),
    }
    with serve(tmp_path_factory.mktemp("connections") / "log", environment) as running:
        yield running


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=30)


def worker_memory(server: Server) -> int:
    [worker] = psutil.Process(server.process.pid).children()
    return int(worker.memory_info().rss)


def sent(server: Server, start: bytes, piece: bytes, times: int) -> bytes:
    """What the server answers to `start` and `times` pieces of which it may not want all."""
    with connect(server) as connection:
        try:
            connection.sendall(start)
            for _ in range(times):
                connection.sendall(piece)
        except OSError:
            pass
        answer = bytearray()
        try:
            while data := connection.recv(65_536):
                answer += data
        except ConnectionResetError:
            pass
        return bytes(answer)


HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CHUNKED = (
    b"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" % token().encode()
)
HUNDRED_MEGABYTES = {
    "header lines": (HEAD, b"".join(b"x-%05d: v\r\n" % number for number in range(90_000)), 431),
    "one header": (HEAD + b"x: ", b"v" * MB, 431),
    "url": (b"GET /", b"v" * MB, 414),
    "chunk extension": (CHUNKED + b"1;", b"v" * MB, 400),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"a: b\r\n" * 166_000, 400),
    "one trailer": (CHUNKED + b"1\r\na\r\n0\r\nx: ", b"v" * MB, 400),
    "requests": (b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 30_000, 200),
    "line breaks": (b"", b"\r\n" * 500_000, 431),
    "no http": (b"", b"\x00" * MB, 400),
}


@pytest.mark.parametrize("case", HUNDRED_MEGABYTES.values(), ids=list(HUNDRED_MEGABYTES))
def test_a_hundred_megabytes_of_it_cost_no_memory_and_are_answered(
    server: Server, case: tuple[bytes, bytes, int]
) -> None:
    start, piece, status = case
    before, peak, done = worker_memory(server), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(worker_memory(server))

    watching = threading.Thread(target=watch)
    watching.start()
    answer = sent(server, start, piece, 100)
    done.set()
    watching.join()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert max(peak) - before < 30 * MB
    if status != 200:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_refused_heads_are_counted(server: Server) -> None:
    name, labels = "embed_errors_total", {"route": "other", "reason": "headers_too_large"}
    before = value(server, name, **labels)
    assert sent(server, HEAD, b"a: b\r\n" * 200, 1).startswith(b"HTTP/1.1 431 ")
    assert value(server, name, **labels) == before + 1


def test_unread_answers_are_given_up_and_their_memory_comes_back(server: Server) -> None:
    body = json.dumps({"texts": ["a"] * 2048}).encode()
    head = (
        b"POST /batch-embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % token().encode()
    )
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    before = worker_memory(server)
    with ExitStack() as held:
        unread = [held.enter_context(connect(server)) for _ in range(8)]
        for connection in unread:
            connection.sendall(head + body)
            connection.recv(10)  # it begins to come
        deadline = time.monotonic() + ANSWER_TIMEOUT + 10
        while value(server, "embed_in_flight_requests") or (
            worker_memory(server) - before > 50 * MB
        ):
            assert time.monotonic() < deadline, worker_memory(server) - before
            time.sleep(0.1)


def test_a_thousand_heads_that_never_end_keep_nobody_out(server: Server) -> None:
    with ExitStack() as held:
        for _ in range(1000):
            held.enter_context(connect(server)).sendall(HEAD)
        with server.client() as client:
            assert client.post("/embed", json={"text": "still here"}).status_code == 200
