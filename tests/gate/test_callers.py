"""Who is let in, and what failed tokens of one address cost it."""

from __future__ import annotations

import pytest

from auth.errors import TokenExpired, TokenForbidden, TokenInvalid, TokenMissing, TokenTooLarge
from auth.principal import Principal
from auth.tokens import MAX_TOKEN_BYTES
from gate.errors import TooManyFailures
from gate.failures import LOOKS
from lab.signing import NOW, SESSION, USER
from tests.gate.asgi import GateSetup, post, refusal_of


async def test_user_goes_through_with_the_body(setup: GateSetup) -> None:
    await post(setup.project.hs256()).through(setup.gate())
    principal = Principal(user_id=USER, session_id=SESSION, is_anonymous=False)
    assert setup.app.calls == [("/embed", principal, b'{"text": "hello"}')]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer   ",
        b"Basic dTpw",
        b"Token x",
        b"bearerx y",
        b"\xff",
    ],
)
async def test_missing_token_is_missing(setup: GateSetup, authorization: bytes | None) -> None:
    lines = [] if authorization is None else [(b"authorization", authorization)]
    assert isinstance(await refusal_of(setup.gate(), post(None, *lines)), TokenMissing)


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER"])
async def test_scheme_is_read_in_any_case(setup: GateSetup, scheme: bytes) -> None:
    line = (b"authorization", scheme + b"  " + setup.project.hs256().encode() + b" ")
    assert (await post(None, line).through(setup.gate())).status == 200


async def test_refusals_of_tokens_are_told_apart(setup: GateSetup) -> None:
    gate = setup.gate()
    cases = {
        "x.y.z": TokenInvalid,
        "é": TokenInvalid,
        setup.project.hs256(exp=NOW - 1): TokenExpired,
        setup.project.hs256(role="anon"): TokenForbidden,
    }
    for token, expected in cases.items():
        assert type(await refusal_of(gate, post(token))) is expected


async def test_address_with_too_many_failures_has_to_wait(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=3)
    for token in ("wrong", None, setup.project.hs256(role="anon")):
        assert not isinstance(await refusal_of(gate, post(token)), TooManyFailures)
    setup.clock.now += 20
    refusal = await refusal_of(gate, post("wrong"))
    assert isinstance(refusal, TooManyFailures)
    assert refusal.retry_after == 40
    setup.clock.now += 40
    assert isinstance(await refusal_of(gate, post("wrong")), TokenInvalid)


async def test_other_addresses_do_not_suffer(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=1)
    for _ in range(LOOKS):
        await refusal_of(gate, post("wrong"))
    assert isinstance(await refusal_of(gate, post(setup.project.hs256())), TooManyFailures)
    assert (await post(setup.project.hs256(), peer=("192.0.2.8", 1)).through(gate)).status == 200


async def test_users_are_served_through_a_flood_from_their_own_address(setup: GateSetup) -> None:
    """Two bad tokens a second, and as many calls of a user who is known and of new ones."""
    gate, known = setup.gate(), setup.project.hs256(exp=NOW + 3600)
    for second in range(94):
        for _ in range(2):
            await refusal_of(gate, post("wrong"))
        token = known if second % 2 else setup.project.user_token()
        for _ in range(2):
            assert (await post(token).through(gate)).status == 200
        setup.clock.now += 1


async def test_a_new_user_is_served_where_nobody_was_yet_beside_two_bad_tokens_a_second(
    setup: GateSetup,
) -> None:
    gate = setup.gate()
    for _ in range(600):
        await refusal_of(gate, post(setup.project.hs256("x" * 32)))
        setup.clock.now += 0.5
    assert (await post(setup.project.hs256()).through(gate)).status == 200


async def test_a_flood_where_no_user_is_stays_unverified(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=3)
    reasons = [
        (await refusal_of(gate, post(setup.project.hs256("x" * 32)))).reason for _ in range(100)
    ]
    assert reasons == ["token_invalid"] * 3 + ["too_many_failures"] * 97
    refusal = await refusal_of(gate, post(setup.project.hs256()))
    assert isinstance(refusal, TooManyFailures)
    assert refusal.retry_after == 60


async def test_a_subscriber_with_a_whole_ipv6_prefix_has_one_budget(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=4)
    for n in range(4):
        refusal = await refusal_of(gate, post("wrong", peer=(f"2001:db8:0:7::{n:x}", 1)))
        assert isinstance(refusal, TokenInvalid)
    next_address = await refusal_of(gate, post("wrong", peer=("2001:db8:0:7:ffff::1", 1)))
    assert isinstance(next_address, TooManyFailures)
    next_subscriber = await refusal_of(gate, post("wrong", peer=("2001:db8:0:8::1", 1)))
    assert isinstance(next_subscriber, TokenInvalid)


async def test_expired_tokens_count_against_nobody(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=1)
    for _ in range(5):
        assert isinstance(
            await refusal_of(gate, post(setup.project.hs256(exp=NOW - 1))), TokenExpired
        )


async def test_a_token_that_is_too_large_counts_against_nobody(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=1)
    for _ in range(5):
        refusal = await refusal_of(
            gate, post(setup.project.hs256(app_metadata="x" * MAX_TOKEN_BYTES))
        )
        assert isinstance(refusal, TokenTooLarge)


async def test_only_a_trusted_proxy_may_name_the_caller(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=1, trusted_proxies="10.0.0.1")
    forged = (b"x-forwarded-for", b"203.0.113.5")
    await refusal_of(gate, post("wrong", forged))
    assert isinstance(
        await refusal_of(gate, post("wrong", (b"x-forwarded-for", b"203.0.113.6"))), TooManyFailures
    )
    proxy = ("10.0.0.1", 1)
    await refusal_of(gate, post("wrong", forged, peer=proxy))
    assert isinstance(await refusal_of(gate, post("wrong", forged, peer=proxy)), TooManyFailures)
    other = post("wrong", (b"x-forwarded-for", b"203.0.113.6"), peer=proxy)
    assert isinstance(await refusal_of(gate, other), TokenInvalid)


async def test_connection_without_an_address_has_a_budget_too(setup: GateSetup) -> None:
    gate = setup.gate(failed_auth_per_minute=1)
    await refusal_of(gate, post("wrong", peer=None))
    assert isinstance(await refusal_of(gate, post("wrong", peer=None)), TooManyFailures)
