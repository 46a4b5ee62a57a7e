"""Bodies that are handed on as they come."""

import asyncio
from typing import Any

import pytest

from gate.bodies import Message, Receive
from gate.errors import BodyTimeout, BodyTooLarge, UnsupportedMediaType
from gate.gate import Scope, Send
from gate.streams import StreamedBody
from tests.gate.asgi import GateSetup, Request, get, refusal_of


def body_of(*pieces: bytes, pause: float = 0.0, leaves: bool = False) -> Any:
    left = list(pieces)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left) or leaves}

    return receive


async def read(stream: StreamedBody) -> bytes:
    body = b""
    while not stream.complete:
        body += (await stream())["body"]
    return body


async def test_a_body_is_handed_on_piece_by_piece_and_then_what_the_server_says() -> None:
    stream = StreamedBody(body_of(b"ab", b"c"), limit=3, pace=1e6, seconds=5)
    assert await read(stream) == b"abc"
    assert (await stream())["type"] == "http.disconnect"


async def test_a_body_over_the_limit_ends_at_the_piece_that_is_too_much() -> None:
    stream = StreamedBody(body_of(b"ab", b"cd"), limit=3, pace=1e6, seconds=5)
    await stream()
    with pytest.raises(BodyTooLarge):
        await stream()


async def test_a_client_that_leaves_is_told_apart() -> None:
    stream = StreamedBody(body_of(b"ab", leaves=True), limit=30, pace=1e6, seconds=5)
    await stream()
    with pytest.raises(BodyTimeout) as error:
        await stream()
    assert error.value.reason == "client_left"


async def test_a_body_has_time_for_what_it_has_and_no_more() -> None:
    pieces = [b"x" * 100] * 8
    fast = StreamedBody(body_of(*pieces, pause=0.02), limit=1000, pace=100 / 0.01, seconds=0.3)
    assert len(await read(fast)) == 800
    slow = StreamedBody(body_of(*pieces, pause=0.02), limit=1000, pace=1e9, seconds=0.05)
    with pytest.raises(BodyTimeout, match="KiB per second"):
        await read(slow)


FORM = (b"content-type", b"multipart/form-data; boundary=b")


def upload(setup: GateSetup, *chunks: bytes, content_type: bytes = FORM[1]) -> Request:
    headers = [
        (b"content-type", content_type),
        (b"transfer-encoding", b"chunked"),
        (b"authorization", f"Bearer {setup.project.hs256()}".encode()),
    ]
    return Request(path="/files", headers=headers, chunks=list(chunks))


async def test_a_form_is_handed_on_before_it_has_arrived(setup: GateSetup) -> None:
    request = upload(setup, b"ab", b"cd")
    await request.through(setup.gate())
    [(_, _, first)] = setup.app.calls
    assert (first, request.reads, request.status) == (b"ab", 1, 200)


async def test_a_connection_whose_form_was_not_read_to_its_end_is_closed(setup: GateSetup) -> None:
    partly, whole = upload(setup, b"ab", b"cd"), upload(setup, b"ab")
    await partly.through(setup.gate())
    await whole.through(setup.gate())
    assert partly.header(b"connection") == b"close"
    assert whole.header(b"connection") is None


async def test_a_form_over_its_limit_ends_while_it_is_read(setup: GateSetup) -> None:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    setup.service = reading
    with pytest.raises(BodyTooLarge):
        await upload(setup, b"x" * 600, b"x" * 600, b"x").through(setup.gate())


@pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b""])
async def test_a_form_is_taken_in_its_own_type_alone(setup: GateSetup, content_type: bytes) -> None:
    request = upload(setup, b"{}", content_type=content_type)
    assert isinstance(await refusal_of(setup.gate(), request), UnsupportedMediaType)


async def test_every_method_of_a_charged_route_costs_a_request(setup: GateSetup) -> None:
    bearer = (b"authorization", f"Bearer {setup.project.hs256()}".encode())
    for request in (get("/files", bearer), get("/files/a", bearer, method="DELETE")):
        await request.through(setup.gate())
    left = get("/usage", bearer)
    await left.through(setup.gate())
    assert [path for path, _, _ in setup.app.calls] == ["/files", "/files/a", "/usage"]
    assert (await setup.quota.usage(setup.app.calls[0][1].user_id)).remaining == 98  # type: ignore[union-attr]


async def test_a_method_without_a_body_takes_none(setup: GateSetup) -> None:
    bearer = (b"authorization", f"Bearer {setup.project.hs256()}".encode())
    request = get("/files/a", bearer, (b"content-length", b"2"), method="DELETE")
    assert (await refusal_of(setup.gate(), request)).reason == "unexpected_body"
