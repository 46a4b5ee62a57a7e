"""What comes on a connection and waits for its turn of the event loop."""

import asyncio
import socket
import time
from contextlib import ExitStack

import pytest
from starlette.types import Receive, Scope, Send

from api.protocol import Connection
from api.turns import Start
from api.waiting import HeldBytes
from gate.body_memory import PIECE
from tests.api.connections import GET, Served, read_to_end, until

HELD = 0.4  # seconds
POST = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
KEPT_ALIVE = 1.0  # seconds, of `served`


class LateTurns:
    """Turns of an event loop that is so busy that all reads wait for as long."""

    def take(self, *, user: str, later: Start, cost: int = 1) -> bool:
        asyncio.get_running_loop().call_later(HELD, later)
        return False


@pytest.fixture(autouse=True)
def late(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "turns", LateTurns())


def test_a_request_that_was_held_while_another_was_answered_may_take_long(served: Served) -> None:
    """The connection was idle for none of that time."""
    with served.connect() as connection:
        connection.sendall(GET.replace(b"/ok", b"/slow"))
        until(lambda: served.in_flight)
        connection.sendall(POST % 4)
        time.sleep(HELD + 1.5 * KEPT_ALIVE)
        connection.sendall(b"body")
        received = b""
        while b'"bytes": 4}' not in received:
            data = connection.recv(1000)
            assert data, received
            received += data


def test_nothing_that_was_held_runs_once_the_connection_closes(served: Served) -> None:
    """Its answer could not be sent."""
    paths: list[str] = []

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await asyncio.sleep(HELD / 2)
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"v" * 8_000_000})

    served._answer = closing  # type: ignore[method-assign]
    with served.connect(receive_buffer=4096) as connection:
        connection.sendall(GET)
        until(lambda: paths)
        connection.sendall(GET.replace(b"/ok", b"/later"))
        time.sleep(2 * HELD)
        read_to_end(connection)
    assert paths == ["/ok"]


def test_an_application_that_asks_for_more_does_not_get_twice_as_much_at_a_time(
    served: Served,
) -> None:
    """A body's memory is granted by the piece."""
    sizes: list[int] = []

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            await asyncio.sleep(0 if sizes else HELD / 2)
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    served._answer = reading  # type: ignore[method-assign]
    with served.connect() as connection:
        connection.sendall(POST % 900_000 + b"v" * 100)
        until(lambda: served.in_flight)
        connection.sendall(b"v" * 899_900)
        until(lambda: sum(sizes) == 900_000, 10)
    assert sizes[0] == 100
    assert max(sizes) <= PIECE


def test_of_what_a_user_sends_at_once_so_much_waits(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest reads are ended first, and small ones never."""
    monkeypatch.setattr(Connection, "held", HeldBytes(max_per_user=40_000, small=1_000))
    large = POST % 30_000 + b"v" * 30_000
    with ExitStack() as stack:
        connections = [stack.enter_context(served.connect()) for _ in range(4)]
        for connection, content in zip(connections, (large, large, large, GET), strict=True):
            connection.sendall(content)
        answers = [answered(connection) for connection in connections]
    assert answers == [True, False, False, True]
    assert Connection.held.add("new", 40_000), "what was held is counted no more"


def answered(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    except ConnectionResetError:
        return False
