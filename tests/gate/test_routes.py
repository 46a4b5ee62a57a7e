"""Paths, methods, and pages of other origins."""

from __future__ import annotations

from typing import Any

import pytest

from errors import Overloaded
from gate.errors import MethodNotAllowed, PathNotFound
from tests.gate.asgi import GateSetup, get, post, refusal_of


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/embed/",
        "//embed",
        "/EMBED",
        "/embed\x00",
        "/embed/../usage",
        "/embed;x",
        "/metrics",
        "*",
    ],
)
async def test_only_exact_paths_are_answered(setup: GateSetup, path: str) -> None:
    refusal = await refusal_of(setup.gate(), post(setup.project.hs256(), path=path))
    assert isinstance(refusal, PathNotFound)
    assert path not in str(refusal) or not path.strip("/*")


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "post", "X" * 1000]
)
async def test_other_methods_are_refused_with_those_allowed(setup: GateSetup, method: str) -> None:
    refusal = await refusal_of(setup.gate(), get("/embed", method=method))
    assert isinstance(refusal, MethodNotAllowed)
    assert refusal.allowed == ("POST",)


async def test_open_path_needs_no_token(setup: GateSetup) -> None:
    assert (await get("/health").through(setup.gate(max_in_flight=0))).status == 200
    assert setup.app.calls == [("/health", None, b"")]


async def test_open_path_is_answered_while_the_service_starts(setup: GateSetup) -> None:
    setup.ready = False
    assert (await get("/health").through(setup.gate())).status == 200
    refusal = await refusal_of(setup.gate(), post(setup.project.hs256()))
    assert isinstance(refusal, Overloaded)


async def test_head_comes_with_get(setup: GateSetup) -> None:
    assert (await get("/health", method="HEAD").through(setup.gate())).status == 200


async def test_websocket_is_closed(setup: GateSetup) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    await setup.gate()({"type": "websocket", "path": "/embed", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert setup.app.calls == []


async def test_lifespan_passes_through(setup: GateSetup) -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("the application was told to do nothing")

    await setup.gate()({"type": "lifespan"}, nothing, nothing)
    assert setup.app.calls == [("lifespan", None, b"")]


PAGE = b"https://app.example.com"
PREFLIGHT = (
    (b"origin", PAGE),
    (b"access-control-request-method", b"POST"),
    (b"access-control-request-headers", b"authorization,content-type"),
)


async def test_preflight_is_answered_without_a_token(setup: GateSetup) -> None:
    gate = setup.gate(cors_allow_origins=["https://app.example.com"])
    request = await get("/embed", *PREFLIGHT, method="OPTIONS").through(gate)
    assert request.status == 204
    assert request.header(b"access-control-allow-origin") == PAGE
    assert request.header(b"access-control-allow-methods") == b"POST"
    assert request.header(b"access-control-allow-headers") == b"authorization,content-type"
    assert request.header(b"access-control-allow-credentials") is None
    assert setup.app.calls == []


async def test_preflight_of_an_unknown_path_is_not_found(setup: GateSetup) -> None:
    gate = setup.gate(cors_allow_origins=["*"])
    refusal = await refusal_of(gate, get("/nowhere", *PREFLIGHT, method="OPTIONS"))
    assert isinstance(refusal, PathNotFound)


async def test_options_says_which_methods_there_are(setup: GateSetup) -> None:
    request = await get("/health", method="OPTIONS").through(setup.gate())
    assert (request.status, request.header(b"allow")) == (204, b"GET, HEAD, OPTIONS")


async def test_refusals_carry_cors_headers(setup: GateSetup) -> None:
    gate = setup.gate(cors_allow_origins=["https://app.example.com"])
    for request in (post(None), post("wrong"), post("wrong", path="/nowhere"), get("/embed")):
        request.headers.append((b"origin", PAGE))
        await refusal_of(gate, request)
        assert request.header(b"access-control-allow-origin") == PAGE
        assert request.header(b"vary") == b"Origin"
        assert b"retry-after" in (request.header(b"access-control-expose-headers") or b"")
