"""The service behind real Caddy and real nginx: what gets through, and what they keep off."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from http.client import HTTPResponse
from pathlib import Path

import httpx
import numpy as np
import pytest

from lab.server import Server, free_port, serve, token
from tests.deploy.conftest import FAILURES, Proxy, caddy, nginx
from tests.deploy.promql import DEPLOY

HEADER_SECONDS = 5  # of both proxies
READ_SECONDS = 45  # of a whole request at Caddy
CONNECTIONS = 64  # of one address at nginx
ENVELOPE = {"message", "type", "code", "param"}
NOT_SERVED = {"/metrics"}


def assert_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"].keys() == ENVELOPE
    assert answer.json()["error"]["code"] == code


def connect(proxy: Proxy) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    return proxy.trust.wrap_socket(plain, server_hostname="localhost")


def test_a_call_gets_its_vector(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/embed", json={"text": "still here"})
    assert answer.status_code == 200
    assert len(answer.json()["embedding"]) == 384
    assert answer.headers["x-request-id"]


def test_a_large_answer_comes_whole(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/batch-embed", json={"texts": ["still here"] * 300})
    assert np.array(answer.json()["embeddings"]).shape == (300, 384)


@pytest.mark.parametrize("path", ["/openapi.json", "/schema.json", "/v1/models", "/docs"])
def test_what_a_client_has_already_is_not_sent_again(proxy: Proxy, path: str) -> None:
    with proxy.client() as client:
        tag = client.get(path).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            kept = client.get(path, headers={"If-None-Match": known})
            assert (kept.status_code, kept.content) == (304, b"")


def test_every_path_of_the_service_is_served_but_the_metrics(proxy: Proxy, origin: Server) -> None:
    """Path by path what the service itself would have answered to a GET."""
    paths = set(httpx.get(f"{origin.url}/openapi.json").json()["paths"]) - {"/v1/models/{model}"}
    paths |= {"/", "/docs", "/redoc", "/openapi.json", "/schema.json", "/docs/swagger.js"}
    paths |= {"/v1/models/sentence-transformers/all-MiniLM-L6-v2"}
    with proxy.client() as through, origin.client() as direct:
        for path in sorted(paths - NOT_SERVED):
            assert through.get(path).status_code == direct.get(path).status_code, path
    assert paths > NOT_SERVED


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/docs/../metrics", "/x", "/.env"]
)
def test_the_metrics_and_unknown_paths_end_at_the_proxy(proxy: Proxy, path: str) -> None:
    with connect(proxy) as connection:  # a client library would tidy the path up
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"embed_" not in answer


def test_an_unknown_path_has_the_envelope_of_every_error(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert_error(client.get("/nothing"), 404, "path_not_found")


def test_a_body_over_the_limit_is_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert_error(client.post("/embed", json={"text": "a" * 8_400_000}), 413, "body_too_large")
        assert_error(
            client.post("/embed", content=iter([b" " * 65536] * 129), headers=JSON),
            413,
            "body_too_large",
        )


@pytest.mark.parametrize("character", ["a", "가"])
def test_2048_texts_of_1000_characters_pass(proxy: Proxy, origin: Server, character: str) -> None:
    """As LangChain and the AI SDK send them by default: counted here, since embedding takes minutes."""
    body = json.dumps({"texts": [(character * 9 + " ") * 100] * 2048}, ensure_ascii=False).encode()
    for client in (proxy.client(), origin.client()):
        with client:
            answer = client.post("/tokenize", content=body, headers=JSON, timeout=120)
        assert answer.status_code == 200
        assert len(answer.json()["texts"]) == 2048


JSON = {"Content-Type": "application/json"}


def test_failures_count_against_the_callers_own_address_whatever_it_writes(proxy: Proxy) -> None:
    """Two callers, one of them with another X-Forwarded-For each time."""

    def refused(client: httpx.Client, number: int) -> int:
        return client.post(
            "/embed", json={"text": "a"}, headers={"X-Forwarded-For": f"203.0.113.{number}"}
        ).status_code

    network = f"127.{proxy.port >> 8}.{proxy.port & 255}"  # both proxies ask one service: callers of their own
    with (
        proxy.client(f"{network}.1", "not.a.token") as bad,
        proxy.client(f"{network}.2", "not.a.token") as other,
    ):
        assert [refused(bad, number) for number in range(FAILURES + 2)] == [401] * FAILURES + [
            429
        ] * 2
        assert refused(other, 1) == 401


def test_slow_headers_are_cut_off_and_others_served_meanwhile(proxy: Proxy) -> None:
    def drip(connection: ssl.SSLSocket) -> float:
        """Seconds until the proxy has had enough of a header a byte at a time."""
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


def test_a_body_that_drips_is_given_up_by_the_service_behind(proxy: Proxy) -> None:
    """nginx passes the answer on at once; Caddy, as all of Go, first reads on until its own time is up."""
    started, answer = time.monotonic(), b""
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
    assert b"x-request-id" in answer.lower()  # it is the service that says so


def head_of_a_body_of(size: int) -> bytes:
    head = f"POST /embed HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token()}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()


def test_headers_that_are_too_large_are_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.get("/health", headers={"X-Large": "a" * 100_000})
    assert answer.status_code in (400, 431)


def test_an_expired_token_is_told_so_through_the_proxy(proxy: Proxy) -> None:
    with proxy.client(bearer=token(exp=int(time.time()) - 100)) as client:
        answer = client.post("/embed", json={"text": "a"})
    assert_error(answer, 401, "token_expired")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture
def before_nginx(origin: Server, tmp_path: Path) -> Iterator[Proxy]:
    """What Go's server refuses before Caddy sees it is plain text; nginx can be told what to say."""
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
def test_what_nginx_refuses_has_the_envelope_too(
    before_nginx: Proxy, sent: str, status: int, code: str
) -> None:
    with connect(before_nginx) as connection:
        connection.sendall(f"{sent}\r\n\r\n".encode())
        assert_error(read_answer(connection), status, code)


def read_answer(connection: ssl.SSLSocket) -> httpx.Response:
    answer = HTTPResponse(connection)
    answer.begin()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def test_one_address_has_so_many_calls_at_nginx_and_is_told_when_to_come_back(
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


@pytest.mark.parametrize("start", [partial(caddy, patience="1s"), nginx], ids=["caddy", "nginx"])
def test_callers_of_a_service_that_is_away_are_told_when_to_come_back(
    start: Callable[[Path, int], AbstractContextManager[Proxy]], tmp_path: Path
) -> None:
    with start(tmp_path, free_port()) as proxy, proxy.client() as client:
        answers = [
            client.post("/embed", json={"text": "still here"}),
            client.get("/v1/models"),
            client.get("/readyz"),
        ]
    for answer in answers:
        assert_error(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0


def test_a_probe_does_not_wait_at_caddy(tmp_path: Path) -> None:
    with caddy(tmp_path, free_port()) as proxy, proxy.client() as client:
        started = time.monotonic()
        assert client.get("/readyz").status_code == 503
        assert time.monotonic() - started < 3  # and not the 30 s of a call


def test_no_call_is_lost_at_caddy_while_the_service_restarts(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors, or from a service that is stopping a 503 that says when to come back."""
    port, over = free_port(), threading.Event()
    monkeypatch.setattr(
        "lab.server.free_port", lambda: port
    )  # the next one listens where the last one did
    settings = {"MODEL_QUANTIZATION": "fp32", "RATE_LIMIT_PER_MIN": "100000"}

    def call(proxy: Proxy) -> list[tuple[int, str]]:
        answers = []
        with proxy.client() as client:
            while not over.is_set():
                answer = client.post("/embed", json={"text": "still here"})
                answers.append((answer.status_code, answer.headers.get("retry-after", "")))
                time.sleep(0.05)
        return answers

    with caddy(tmp_path, port) as proxy, ThreadPoolExecutor(4) as pool:
        with serve(tmp_path / "before", settings):
            calls = [pool.submit(call, proxy) for _ in range(4)]
            time.sleep(2)
        with serve(tmp_path / "after", settings):
            time.sleep(2)
            over.set()
            answers = [answer for one in calls for answer in one.result()]
    assert {status for status, _ in answers} <= {200, 503}
    assert all(wait for status, wait in answers if status == 503)
    assert len([status for status, _ in answers if status == 200]) > 40


def test_proxies_let_connections_go_before_the_service_does() -> None:
    image = (DEPLOY / "image" / "Dockerfile.template").read_text()
    [service] = re.findall(r'"--timeout-keep-alive", "(\d+)"', image)
    [at_caddy] = re.findall(r"\bkeepalive (\d+)s", (DEPLOY / "caddy" / "Caddyfile").read_text())
    upstream = re.search(
        r"upstream \w+ \{.*?\}", (DEPLOY / "nginx" / "nginx.conf").read_text(), re.DOTALL
    )
    assert upstream
    [at_nginx] = re.findall(r"keepalive_timeout (\d+)s", upstream[0])
    assert max(int(at_caddy), int(at_nginx)) < int(service)
