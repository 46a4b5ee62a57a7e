"""A real HTTP server with scripted answers, and the results of a client."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from jobs.input.rows import Row
from jobs.remote.answers import Answer, Result
from jobs.remote.service_client import ServiceClient

CARD = {"data": [{"max_tokens": 256, "dimensions": [2]}]}
Reply = tuple[int, Any, dict[str, str]]  # status, body, headers


def vectors(body: dict[str, Any], truncated: bool = False) -> Reply:
    """An answer of the service, with the length of each text in its vector."""
    rows = [
        base64.b64encode(np.array([len(text), 1], "<f4").tobytes()).decode()
        for text in body["texts"]
    ]
    cut = [*range(len(rows))] if truncated else []
    ones = [1] * len(rows)
    return 200, {"embeddings": rows, "tokens": ones, "windows": ones, "truncated": cut}, {}


def refusal(
    status: int, code: str, param: str | None = None, *, message: str | None = None, **headers: str
) -> Reply:
    error = {"code": code, "message": message or f"it says {code}", "param": param}
    return status, {"error": error}, headers


@dataclass
class Stub:
    """Answers each body with `reply`, and keeps all bodies."""

    reply: Callable[[dict[str, Any]], Reply] = vectors
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if handler.path == "/v1/models":
            status = 200
            content = CARD
            headers = {"X-Embedding-Fingerprint": "f"}
        else:
            with self.lock:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                self.bodies.append(json.loads(body))
            try:
                status, content, headers = self.reply(json.loads(body))
            except ConnectionAbortedError:
                handler.close_connection = True
                return
            finally:
                with self.lock:
                    self.in_flight -= 1
        handler.send_response(status)
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, value in {"Content-Length": str(len(sent)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(sent)


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write per answer: a second one would wait for the client's ACK

        def do_GET(self) -> None:
            answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Asked:
    results: list[Result]
    said: list[str]


def ask(
    url: str, texts: list[str], *, titles: bool = False, times: int = 1, concurrency: int = 2
) -> Asked:
    """Send the same texts `times` times with one client; returns the last results."""
    said: list[str] = []
    rows = [
        Row(n, text, n, f"title {n}" if titles else None, None, {}) for n, text in enumerate(texts)
    ]

    async def embed() -> list[Result]:
        client = ServiceClient(url, "token", concurrency=concurrency, say=said.append)
        try:
            card = await client.look()
            client.expect(card.fingerprint, max(card.dimensions))
            for _ in range(times - 1):
                await client.embed(rows, {}, titles=titles)
            found = await client.embed(rows, {}, titles=titles)
            return [found[row.number] for row in rows]
        finally:
            await client.close()

    return Asked(asyncio.run(embed()), said)


def lengths(results: list[Result]) -> list[int]:
    assert all(isinstance(result, Answer) for result in results), results
    return [int(result.vector[0]) for result in results if isinstance(result, Answer)]


def replies(*given: Reply) -> Callable[[dict[str, Any]], Reply]:
    """The given replies first, then vectors."""
    waiting = list(given)
    return lambda body: waiting.pop(0) if waiting else vectors(body)
