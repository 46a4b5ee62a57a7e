"""One request of a user that is being served, so that the next is one too many."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from lab.server import Server, token


@contextmanager
def occupied(server: Server, user: str) -> Iterator[None]:
    """Another request of `user` is being served meanwhile: its body has begun to arrive."""
    address = ("127.0.0.1", httpx.URL(server.url).port or 0)
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(user)}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head.encode())
        while (
            httpx.get(
                f"{server.url}/usage", headers={"Authorization": f"Bearer {token(user)}"}
            ).status_code
            != 429
        ):
            time.sleep(0.01)
        yield


def refusals(server: Server, route: str) -> float:
    """How many requests for a route were refused until now."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    errors = [line for line in lines if line.startswith("embed_errors_total{")]
    return sum(float(line.split()[-1]) for line in errors if f'route="{route}"' in line)


def wait_until_refused(server: Server, route: str, *, before: float) -> None:
    """Wait until more requests for a route were refused than `before`."""
    deadline = time.monotonic() + 30
    while refusals(server, route) <= before:
        assert time.monotonic() < deadline, f"no request for {route} was refused"
        time.sleep(0.01)
