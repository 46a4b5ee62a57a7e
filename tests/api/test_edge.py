"""The outermost layer: ids, headers, errors as answers, one record per request."""

import gc
import re
import weakref

import orjson
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.edge import Edge, RequestRecord
from gate.errors import PathNotFound
from tests.api.asgi import USER, Client


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("fine")(scope, receive, send)


async def lost(scope: Scope, receive: Receive, send: Send) -> None:
    raise PathNotFound


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret")


async def call(
    app: ASGIApp, *headers: tuple[bytes, bytes], path: str = "/known"
) -> tuple[Client, RequestRecord]:
    records: list[RequestRecord] = []
    client = Client()
    client.scope["path"] = path
    edge = Edge(app, routes=["/known"], fingerprint="abc", record=records.append)
    await client.call(edge, headers=headers)
    [record] = records
    return client, record


async def test_every_answer_has_an_id_and_the_fingerprint() -> None:
    for app in (fine, lost, broken):
        client, record = await call(app)
        assert client.headers[b"x-embedding-fingerprint"] == b"abc"
        assert client.headers[b"x-request-id"].decode() == record.request_id
        assert client.headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize("given", [b"a" * 65, b"a b", b"a\xff", b""])
async def test_a_callers_id_is_kept_only_if_it_is_plain(given: bytes) -> None:
    client, _ = await call(fine, (b"x-request-id", given))
    assert re.fullmatch(rb"[0-9a-f]{32}", client.headers[b"x-request-id"])
    client, _ = await call(fine, (b"x-request-id", b"my-id.1"))
    assert client.headers[b"x-request-id"] == b"my-id.1"


async def test_an_unexpected_error_is_a_500_without_its_text() -> None:
    client, record = await call(broken)
    assert client.status == 500
    assert b"a secret" not in client.body
    assert (record.reason, record.status) == ("internal_error", 500)


async def test_a_refusal_is_an_envelope_and_a_record() -> None:
    client, record = await call(lost)
    error = orjson.loads(client.body)["error"]
    assert (client.status, error["code"]) == (404, "path_not_found")
    assert record.reason == "path_not_found"


async def test_a_record_holds_neither_path_nor_user() -> None:
    _, record = await call(fine, path="/a-secret")
    assert record.route == "other"
    assert record.user is not None
    assert USER not in record.user
    _, record = await call(fine)
    assert record.route == "/known"


async def test_another_vector_space_is_a_conflict() -> None:
    client, _ = await call(fine, (b"if-fingerprint", b'"def"'))
    assert client.status == 409
    for same in (b"abc", b'"abc"'):
        client, _ = await call(fine, (b"if-fingerprint", same))
        assert client.status == 200


async def test_a_refused_body_that_was_not_read_closes_the_connection() -> None:
    client, _ = await call(lost, (b"content-length", b"5"))
    assert client.headers[b"connection"] == b"close"
    client, _ = await call(lost, (b"content-length", b"0"))
    assert b"connection" not in client.headers


async def test_an_error_is_freed_without_the_garbage_collector() -> None:
    errors: list[weakref.ref[Exception]] = []

    class FaultError(Exception):
        def __init__(self) -> None:
            errors.append(weakref.ref(self))

    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        raise FaultError

    gc.disable()
    try:
        client = Client()
        edge = Edge(faulty, routes=[], fingerprint="abc", record=lambda _: None)
        await client.call(edge)
        assert errors[0]() is None
    finally:
        gc.enable()
