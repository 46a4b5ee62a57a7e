"""The order of the gate's checks, and what holds for any request."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth import errors
from auth.errors import TokenInvalid
from errors import GateError, Overloaded
from gate.errors import (
    BadHeader,
    BodyTooLarge,
    HeadersTooLarge,
    MethodNotAllowed,
    PathNotFound,
    TooManyConcurrent,
    TooManyFailures,
    UnsupportedMediaType,
)
from gate.failures import LOOKS
from lab.signing import ISSUER, sign_hs256
from quota.errors import QuotaExceeded
from quota.memory import MemoryQuota
from quota.receipt import Limits
from tests.gate.asgi import GateSetup, Request, calls_held, post, refusal_of


async def test_checks_come_in_order_and_only_the_last_reads_the_body(setup: GateSetup) -> None:
    """A request with every fault is corrected one fault at a time."""
    setup.quota = MemoryQuota(Limits(1, 60.0, None), clock=setup.clock)
    gate = setup.gate(
        max_in_flight=1, max_concurrent_per_user=1, failed_auth_per_minute=2, max_body_bytes=1000
    )
    token, others = setup.project.hs256(), [setup.project.user_token() for _ in range(2)]
    for _ in range(2 * LOOKS):
        await refusal_of(gate, post("wrong"))
    setup.ready = False
    path, method = "/nowhere", "DELETE"
    lines = {
        b"authorization": [b"Bearer wrong", b"Bearer wrong"],
        b"transfer-encoding": [b"chunked"],
        b"content-type": [b"text/plain"],
        b"content-length": [b"1001"],
        b"x-padding": [b"x" * 20_000],
    }

    async def refusal() -> type[GateError]:
        headers = [(name, value) for name, values in lines.items() for value in values]
        return type(await refusal_of(gate, Request(path, method, headers)))

    assert await refusal() is PathNotFound
    path = "/embed"
    assert await refusal() is MethodNotAllowed
    method = "POST"
    assert await refusal() is BadHeader
    lines[b"authorization"].pop()
    assert await refusal() is BadHeader
    lines[b"transfer-encoding"].pop()
    assert await refusal() is UnsupportedMediaType
    lines[b"content-type"] = [b"application/json"]
    assert await refusal() is BodyTooLarge
    lines[b"content-length"] = [b"17"]
    assert await refusal() is HeadersTooLarge
    lines[b"x-padding"].pop()
    assert await refusal() is Overloaded
    setup.ready = True
    assert await refusal() is TooManyFailures
    setup.clock.now += 60
    assert await refusal() is TokenInvalid
    lines[b"authorization"] = [b"Bearer " + token.encode()]
    async with calls_held(setup, gate, *others):
        assert await refusal() is Overloaded
    async with calls_held(setup, gate, token):
        assert await refusal() is TooManyConcurrent
    assert await refusal() is QuotaExceeded
    setup.clock.now += 60
    request = post(token)
    request.chunks = [b"x" * 1001]
    with pytest.raises(BodyTooLarge):
        await request.through(gate)
    assert request.reads == 1
    setup.clock.now += 60
    assert (await post(token).through(gate)).status == 200


header_names = st.sampled_from(
    [
        b"authorization",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"origin",
        b"x-forwarded-for",
        b"x",
    ]
)


header_values = st.binary(max_size=40) | st.sampled_from(
    [
        b"application/json",
        b"17",
        b"chunked",
        b"Bearer a.b.c",
        b"Bearer " + sign_hs256({"iss": ISSUER}).encode(),
        b"https://app.example.com",
    ]
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(st.tuples(header_names, header_values), max_size=6),
    method=st.sampled_from(["POST", "GET", "OPTIONS", "HEAD", "PUT"]) | st.text(max_size=5),
    path=st.sampled_from(["/embed", "/usage", "/health"]) | st.text(max_size=9),
    peer=st.none()
    | st.tuples(
        st.sampled_from(["127.0.0.1", "::1", "fe80::1%eth0", "/run/socket", ""]), st.just(1)
    ),
)
def test_no_request_breaks_the_gate_and_no_unsigned_one_passes(
    lines: list[tuple[bytes, bytes]], method: str, path: str, peer: tuple[str, int] | None
) -> None:
    setup = GateSetup()
    gate = setup.gate(cors_allow_origins=["https://app.example.com"])
    request = Request(path=path, method=method, headers=lines, peer=peer)
    with contextlib.suppress(GateError):
        asyncio.run(request.through(gate))
    assert {call[0] for call in setup.app.calls} <= {"/health"}


def test_reasons_are_a_fixed_set_of_short_words() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, GateError)
    ]
    assert len({kind.reason for kind in kinds}) >= len(kinds) - 3
    assert all(kind.reason.isidentifier() and len(kind.reason) < 30 for kind in kinds)
