"""Headers that the gate accepts and refuses."""

from __future__ import annotations

import pytest

from gate.errors import BadHeader, BodyTooLarge, HeadersTooLarge, UnsupportedMediaType
from tests.gate.asgi import GateSetup, Request, get, post, refusal_of

LENGTH = (b"content-length", b"17")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([(b"authorization", b"Bearer x")], "two_authorizations"),
        ([(b"transfer-encoding", b"chunked")], "two_body_lengths"),
        ([(b"content-length", b"17")], "bad_content_length"),
        ([(b"content-type", b"application/json")], "two_content_types"),
        ([(b"origin", b"a"), (b"origin", b"b")], "two_origins"),
    ],
)
async def test_headers_that_contradict_each_other_are_refused(
    setup: GateSetup, lines: list[tuple[bytes, bytes]], reason: str
) -> None:
    refusal = await refusal_of(setup.gate(), post(setup.project.hs256(), *lines))
    assert isinstance(refusal, BadHeader)
    assert refusal.reason == reason


@pytest.mark.parametrize(
    "length", [b"-1", b"+17", b"1_7", b"17, 17", b"0x11", b"", "١٧".encode(), b"9" * 30]
)
async def test_content_length_must_be_a_number(setup: GateSetup, length: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    assert isinstance(await refusal_of(setup.gate(), Request(headers=headers)), BadHeader)


@pytest.mark.parametrize(
    "media_type",
    [
        b"",
        b"text/plain",
        b"application/json;charset=latin-1",
        b"application/json;charset=utf-8;charset=utf-16",
        b"application/jsonp",
        b"multipart/form-data",
        b"*/*",
    ],
)
async def test_body_must_be_json(setup: GateSetup, media_type: bytes) -> None:
    request = Request(headers=[(b"content-type", media_type), LENGTH])
    assert isinstance(await refusal_of(setup.gate(), request), UnsupportedMediaType)


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/json",
        b"Application/JSON; Charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"application/json; charset=utf8",
        b"application/json;",
        b"application/json; charset=utf-8;",
        b"application/json; version=1; charset = UTF8",
    ],
)
async def test_json_may_say_that_it_is_utf_8(setup: GateSetup, media_type: bytes) -> None:
    token = setup.project.hs256().encode()
    headers = [(b"content-type", media_type), LENGTH, (b"authorization", b"Bearer " + token)]
    assert (await Request(headers=headers).through(setup.gate())).status == 200


async def test_compressed_body_is_refused(setup: GateSetup) -> None:
    request = post(setup.project.hs256(), (b"content-encoding", b"gzip"))
    assert isinstance(await refusal_of(setup.gate(), request), UnsupportedMediaType)


async def test_announced_body_over_the_limit_is_refused_unread(setup: GateSetup) -> None:
    refusal = await refusal_of(setup.gate(max_body_bytes=16), post(setup.project.hs256()))
    assert isinstance(refusal, BodyTooLarge)
    assert refusal.limit == 16


async def test_headers_over_16_kib_are_refused(setup: GateSetup) -> None:
    many = [(b"x-%d" % n, b"v" * 50) for n in range(400)]
    for lines in ([(b"x", b"v" * 16_384)], many):
        assert isinstance(
            await refusal_of(setup.gate(), post(setup.project.hs256(), *lines)), HeadersTooLarge
        )


async def test_body_where_none_is_taken_is_refused(setup: GateSetup) -> None:
    for line in (LENGTH, (b"transfer-encoding", b"chunked")):
        assert isinstance(await refusal_of(setup.gate(), get("/health", line)), BadHeader)
    assert (await get("/health", (b"content-length", b"0")).through(setup.gate())).status == 200
