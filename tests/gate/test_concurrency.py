"""Requests at once, and bodies in pieces."""

from __future__ import annotations

import asyncio

import pytest

from errors import GateError, Overloaded
from gate.errors import BodyTimeout, BodyTooLarge, TooManyConcurrent
from gate.gate import Gate
from tests.gate.asgi import GateSetup, Request, calls_held, get, post, refusal_of

OTHER_USER = "11111111-2222-4333-8444-555555555555"


async def test_calls_in_flight_are_bounded_and_freed(setup: GateSetup) -> None:
    """Each user with a single one, so up to twice the limit."""
    gate = setup.gate(max_in_flight=3)
    async with calls_held(setup, gate, *[setup.project.user_token() for _ in range(6)]):
        refusal = await refusal_of(gate, post(setup.project.user_token()))
        assert isinstance(refusal, Overloaded)
        assert refusal.retry_after >= 1
        assert (await asyncio.wait_for(get_health(setup, gate), 1)).status == 200
    assert (await post(setup.project.user_token()).through(gate)).status == 200


async def get_health(setup: GateSetup, gate: Gate) -> Request:
    setup.app.answers.set()
    return await get("/health").through(gate)


async def test_calls_of_one_user_are_bounded_and_freed(setup: GateSetup) -> None:
    gate, token = setup.gate(max_concurrent_per_user=2), setup.project.hs256()
    async with calls_held(setup, gate, token, token):
        same_user_other_session = setup.project.hs256(
            session_id="11111111-1111-4111-8111-111111111111"
        )
        assert isinstance(await refusal_of(gate, post(same_user_other_session)), TooManyConcurrent)
        setup.app.answers.set()
        assert (await post(setup.project.hs256(sub=OTHER_USER)).through(gate)).status == 200
    assert (await post(token).through(gate)).status == 200


async def test_failing_calls_give_their_place_back(setup: GateSetup) -> None:
    gate = setup.gate(max_in_flight=1, max_concurrent_per_user=1, body_timeout=0.02)
    token = setup.project.hs256()
    for request in (
        post("wrong"),
        post(token, leaves=True),
        post(token, pause=0.05),
        post(token, path="/nowhere"),
    ):
        with pytest.raises(GateError):
            await request.through(gate)
    task = asyncio.create_task(post(token, pause=9).through(setup.gate(max_in_flight=1)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await post(token).through(gate)).status == 200


async def test_body_in_pieces_arrives_whole(setup: GateSetup) -> None:
    request = post(setup.project.hs256())
    request.headers[1] = (b"transfer-encoding", b"chunked")
    request.chunks = [b'{"te', b'xt": ', b"", b'"hello"}']
    await request.through(setup.gate())
    assert setup.app.calls[0][2] == b'{"text": "hello"}'


async def test_endless_body_is_cut_at_the_limit(setup: GateSetup) -> None:
    request = post(setup.project.hs256())
    request.headers[1] = (b"transfer-encoding", b"chunked")
    request.chunks = [b"x" * 1000] * 200_000
    with pytest.raises(BodyTooLarge):
        await request.through(setup.gate(max_body_bytes=10_000))
    assert request.reads == 11
    assert setup.app.calls == []


async def test_slow_body_is_given_up_on_as_a_whole(setup: GateSetup) -> None:
    request = post(setup.project.hs256(), pause=0.03)
    request.chunks = [b"x"] * 100
    with pytest.raises(BodyTimeout):
        await request.through(setup.gate(body_timeout=0.1))
    assert request.reads <= 5
    assert setup.app.calls == []


async def test_caller_who_leaves_in_mid_body_causes_no_work(setup: GateSetup) -> None:
    with pytest.raises(BodyTimeout) as refusal:
        await post(setup.project.hs256(), leaves=True).through(setup.gate())
    assert refusal.value.reason == "client_left"
    assert setup.app.calls == []
