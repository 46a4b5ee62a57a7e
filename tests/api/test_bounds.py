"""Connections of a real uvicorn on uvloop: how many there are, and what they leave unread."""

import resource
import socket
import time
from contextlib import ExitStack

import pytest
from starlette.types import Receive, Scope, Send

from api import protocol
from api.bounds import MAX_CONNECTIONS, connections_allowed
from api.protocol import Connection
from api.waiting import Waiting
from request_state import state_of
from tests.api.connections import (
    ANSWER_TIMEOUT,
    GET,
    PIECE,
    PIECES,
    Served,
    read_to_end,
    sent,
    until,
)


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
