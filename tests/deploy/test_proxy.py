"""The service behind real Caddy and real nginx: what gets through, and what they keep off."""

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deploy.conftest import FAILURES, Proxy
from tests.live.server import Server, token

HEADER_SECONDS = 5  # of both proxies
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
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"embed_" not in answer


def test_an_unknown_path_has_the_envelope_of_every_error(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert_error(client.get("/nothing"), 404, "path_not_found")


def test_a_body_over_the_limit_is_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert_error(client.post("/embed", json={"text": "a" * 1_100_000}), 413, "body_too_large")
        assert_error(client.post("/embed", content=iter([b" " * 65536] * 32), headers=JSON), 413, "body_too_large")
        assert client.post("/embed", json={"text": "a" * 1_000_000}).status_code == 200


JSON = {"Content-Type": "application/json"}


def test_failures_count_against_the_callers_own_address_whatever_it_writes(proxy: Proxy) -> None:
    """Two callers, one of them with another X-Forwarded-For each time."""

    def refused(client: httpx.Client, number: int) -> int:
        return client.post("/embed", json={"text": "a"}, headers={"X-Forwarded-For": f"203.0.113.{number}"}).status_code

    network = f"127.{proxy.port >> 8}.{proxy.port & 255}"  # both proxies ask one service: callers of their own
    with proxy.client(f"{network}.1", "not.a.token") as bad, proxy.client(f"{network}.2", "not.a.token") as other:
        assert [refused(bad, number) for number in range(FAILURES + 2)] == [401] * FAILURES + [429] * 2
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


def test_headers_that_are_too_large_are_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.get("/health", headers={"X-Large": "a" * 100_000})
    assert answer.status_code in (400, 431)


def test_an_expired_token_is_told_so_through_the_proxy(proxy: Proxy) -> None:
    with proxy.client(bearer=token(exp=int(time.time()) - 100)) as client:
        answer = client.post("/embed", json={"text": "a"})
    assert_error(answer, 401, "token_expired")
    assert answer.headers["www-authenticate"].startswith("Bearer")
