"""Slow callers and callers with many connections are stopped at real Caddy and real nginx."""

import re
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from lab.server import Server
from settings import Settings
from tests.deploy.promql import DEPLOY
from tests.deploy.proxies import (
    READ_SECONDS,
    Proxy,
    assert_error,
    connect,
    head_of_a_body_of,
    nginx,
    read_answer,
)

HEADER_SECONDS = 5  # of both proxies
CONNECTIONS = 64  # per address at nginx


def test_slow_headers_end_their_connection_and_other_callers_are_served(proxy: Proxy) -> None:
    def drip(connection: ssl.SSLSocket) -> float:
        """Seconds until the proxy closes a connection that sends a header byte by byte."""
        started = time.monotonic()
        try:
            connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            while time.monotonic() - started < 4 * HEADER_SECONDS:
                connection.sendall(b"a")
                connection.settimeout(0.5)
                try:
                    if not connection.recv(1000):
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        return time.monotonic() - started

    slow = [connect(proxy) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool, proxy.client() as client:
        drips = [pool.submit(drip, connection) for connection in slow]
        assert client.post("/embed", json={"text": "still here"}).status_code == 200
        assert all(future.result() < 3 * HEADER_SECONDS for future in drips)
        assert client.post("/embed", json={"text": "still here"}).status_code == 200
    for connection in slow:
        connection.close()


def test_a_slow_body_is_refused_by_the_service_behind_the_proxy(proxy: Proxy) -> None:
    """nginx passes the answer on at once; Caddy first reads on until its own time limit."""
    started = time.monotonic()
    answer = b""
    with connect(proxy) as connection:
        connection.sendall(head_of_a_body_of(1000))
        connection.settimeout(0.25)
        while not answer and time.monotonic() - started < READ_SECONDS + 5:
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert b"x-request-id" in answer.lower()  # the answer is that of the service


def test_caddy_lets_a_body_arrive_and_wait_as_long_as_the_service_does() -> None:
    [seconds] = re.findall(r"read_body (\d+)s", (DEPLOY / "caddy" / "Caddyfile").read_text())
    assert int(seconds) > 2 * Settings.model_fields["body_timeout"].default


@pytest.fixture
def before_nginx(origin: Server, tmp_path: Path) -> Iterator[Proxy]:
    """nginx only: what Go refuses before Caddy sees it has an answer in plain text."""
    with nginx(tmp_path, httpx.URL(origin.url).port or 0) as running:
        yield running


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (
            "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Large: " + "a" * 20_000,
            431,
            "headers_too_large",
        ),
        (f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: localhost", 414, "headers_too_large"),
        ("GET /health HTTP/1.1", 400, "refused"),
        ("TRACE /health HTTP/1.1\r\nHost: localhost", 405, "refused"),
    ],
)
def test_refusals_of_nginx_have_the_error_envelope(
    before_nginx: Proxy, sent: str, status: int, code: str
) -> None:
    with connect(before_nginx) as connection:
        connection.sendall(f"{sent}\r\n\r\n".encode())
        assert_error(read_answer(connection), status, code)


def test_nginx_bounds_the_calls_of_an_address_and_answers_with_retry_after(
    before_nginx: Proxy,
) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(before_nginx)) for _ in range(CONNECTIONS)]
        for connection in waiting:
            connection.sendall(head_of_a_body_of(1000))
        time.sleep(0.5)
        with before_nginx.client() as client:
            answer = client.post("/embed", json={"text": "one more"})
    assert_error(answer, 429, "too_many_concurrent")
    assert int(answer.headers["retry-after"]) > 0
