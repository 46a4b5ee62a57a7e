"""The load of the drills notices wrong, refused and lost answers of a faulty server."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from drills import load as module
from drills.load import Call, Load

VECTORS = np.eye(2, 3, dtype=np.float32)  # of two texts
RIGHT = json.dumps({"embedding": [1, 0, 0]}).encode()
HANG = 1.0  # seconds before a server closes a connection without an answer


class Server(ThreadingHTTPServer):
    """Answers every call with `status` and `body`; closes it after a while if `status` is 0."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.body = RIGHT
        self.headers: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 0:
            time.sleep(HANG)
            return
        self.send_response(self.server.status)
        for name, value in {
            **self.server.headers,
            "Content-Length": str(len(self.server.body)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def load_of(server: Server) -> Load:
    url = f"http://127.0.0.1:{server.server_port}"
    return Load(url, ["one"], VECTORS[:1], callers=2, pause=0.01)


async def outcomes(server: Server, seconds: float = 0.1) -> Counter[str]:
    load = load_of(server)
    async with load.running():
        await asyncio.sleep(seconds)
    return Counter(call.outcome for call in load.calls)


async def test_the_right_vector_is_right(server: Server) -> None:
    assert set(await outcomes(server)) == {"right"}


@pytest.mark.parametrize(
    "embedding", [[0, 1, 0], [1, 0], [], [[1, 0, 0]], [1, 0, float("nan")], None, "text"], ids=str
)
async def test_any_other_vector_is_wrong(server: Server, embedding: object) -> None:
    server.body = json.dumps({"embedding": embedding}).encode()
    assert set(await outcomes(server)) == {"wrong"}


async def test_a_caller_continues_after_an_invalid_body(server: Server) -> None:
    server.body = b"<html>"
    load = load_of(server)
    async with load.running(), asyncio.timeout(30):
        while len(load.calls) <= 2 * load.callers:
            await asyncio.sleep(0.01)
    assert {call.outcome for call in load.calls} == {"wrong"}


async def test_a_refusal_without_retry_after_is_lost(server: Server) -> None:
    server.status = 503
    server.body = json.dumps({"error": {"code": "starting"}}).encode()
    assert set(await outcomes(server)) == {"lost"}
    server.headers = {"Retry-After": "2"}
    assert set(await outcomes(server)) == {"refused"}


async def test_a_call_without_an_answer_is_lost_even_if_the_drill_ends_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", HANG / 4)
    server.status = 0
    assert await outcomes(server, 0.05) == {"lost": 2}


def test_the_stall_of_one_caller_is_not_hidden_by_another_that_is_served() -> None:
    load = Load("", [], VECTORS, callers=2)
    load.calls = [Call(0, t, t + 1, "right", "") for t in range(20)]
    load.calls += [
        Call(1, 0, 1, "right", ""),
        Call(1, 1, 9, "lost", "ReadTimeout"),
        Call(1, 9, 20, "right", ""),
    ]
    assert load.longest_stall(0.5, 20) == 19


def test_a_stall_may_last_until_the_end() -> None:
    load = Load("", [], VECTORS, callers=1)
    load.calls = [Call(0, 0, 1, "right", ""), Call(0, 1, 10, "lost", "ReadTimeout")]
    assert load.longest_stall(0.5, 10) == 9
