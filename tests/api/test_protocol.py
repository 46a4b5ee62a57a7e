"""Connections of a real uvicorn on uvloop: what one of them may send."""

import json
import re
import socket
import time

import pytest

from api.bounds import MAX_PIPELINED
from tests.api.connections import CHUNKED, GET, Served, read_to_end, sent

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
