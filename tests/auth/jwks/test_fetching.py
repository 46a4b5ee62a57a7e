"""When a key set is fetched, and how keys are replaced."""

from __future__ import annotations

import asyncio
import time

import pytest

from auth.errors import KeysUnavailable, TokenInvalid, UnknownKey
from auth.jwks import COLD_PAUSE, FRESH, PAUSE, STALE, RemoteKeys
from auth.principal import Principal
from auth.tokens import TokenVerifier
from lab.signing import Clock, Project, ec_key, jwks, public_jwk
from tests.auth.jwks.remote import FIRST, SECOND, refusal_of, settle
from tests.auth.key_server import KeyServer, says


async def test_hundred_cold_verifications_fetch_once(
    verifier: TokenVerifier, key_server: KeyServer, project: Project
) -> None:
    tokens = [project.es256(jti=str(n)) for n in range(100)]
    users = await asyncio.gather(*map(verifier.verify, tokens))
    assert all(isinstance(user, Principal) for user in users)
    assert key_server.hits == 1
    assert key_server.paths == ["/auth/v1/.well-known/jwks.json"]


async def test_start_fetches_before_the_first_token(
    keys: RemoteKeys, key_server: KeyServer
) -> None:
    assert await keys.start()
    assert await keys.find("ES256", "key-1")
    assert key_server.hits == 1


async def test_fresh_keys_are_not_fetched_again(
    keys: RemoteKeys, key_server: KeyServer, clock: Clock
) -> None:
    await keys.start()
    clock.now += FRESH
    await keys.find("ES256", "key-1")
    await settle(keys)
    assert key_server.hits == 1


async def test_older_keys_are_served_while_new_ones_are_fetched(
    keys: RemoteKeys, key_server: KeyServer, clock: Clock
) -> None:
    await keys.start()
    key_server.answer = says(jwks(SECOND), pause=0.1)
    clock.now += FRESH + 1
    began = time.perf_counter()
    assert await keys.find("ES256", "key-1")
    assert time.perf_counter() - began < 0.05
    await settle(keys)
    assert [key.kid for key in await keys.find("ES256", None)] == ["key-2"]
    assert key_server.hits == 2


async def test_five_hundred_unknown_key_ids_cause_no_storm(
    verifier: TokenVerifier, key_server: KeyServer, project: Project
) -> None:
    await verifier.verify(project.es256())
    forged = [project.es256(key="stranger", kid=f"unknown-{n}") for n in range(500)]
    outcomes = await asyncio.gather(*map(verifier.verify, forged), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {TokenInvalid, UnknownKey}
    one_by_one = [await refusal_of(verifier, token) for token in forged[:50]]
    assert {type(refusal) for refusal in one_by_one} <= {TokenInvalid, UnknownKey}
    assert key_server.hits == 2
    assert isinstance(await verifier.verify(project.es256(jti="still served")), Principal)


async def test_new_key_is_accepted_at_once(
    verifier: TokenVerifier, key_server: KeyServer, project: Project
) -> None:
    await verifier.verify(project.es256())
    key_server.publish(jwks(FIRST, SECOND))
    assert await verifier.verify(project.es256(key="second", kid="key-2"))
    assert await verifier.verify(project.es256(jti="the old key is still good"))
    assert key_server.hits == 2


async def test_rotation_refuses_no_valid_token(
    verifier: TokenVerifier, key_server: KeyServer, project: Project, clock: Clock
) -> None:
    """Old and new keys overlap, and tokens of both are accepted all the time."""
    for minute in range(20):
        key_server.publish(
            jwks(FIRST) if minute < 5 else jwks(FIRST, SECOND) if minute < 15 else jwks(SECOND)
        )
        if minute < 15:
            await verifier.verify(project.es256(jti=str(minute)))
        if minute >= 5:
            await verifier.verify(project.es256(key="second", kid="key-2", jti=str(minute)))
        clock.now += 60
        await asyncio.sleep(0.005)


async def test_valid_token_is_never_called_invalid_while_a_stranger_uses_up_the_fetches(
    verifier: TokenVerifier, key_server: KeyServer, project: Project, clock: Clock
) -> None:
    await verifier.verify(project.es256())
    await refusal_of(verifier, project.es256(key="stranger", kid="unknown"))
    key_server.publish(jwks(FIRST, SECOND))
    rotated = project.es256(key="second", kid="key-2")
    with pytest.raises(KeysUnavailable) as wait:
        await verifier.verify(rotated)
    clock.now += wait.value.retry_after
    assert await verifier.verify(rotated)


async def test_key_id_that_was_looked_up_in_vain_is_refused_without_a_fetch(
    verifier: TokenVerifier, key_server: KeyServer, project: Project, clock: Clock
) -> None:
    foreign = project.es256(key="stranger", kid="foreign")
    for _ in range(5):
        assert isinstance(await refusal_of(verifier, foreign), TokenInvalid)
    assert key_server.hits == 2  # the first to have keys at all, the second to look again
    key_server.publish(jwks(FIRST, public_jwk(ec_key("stranger"), kid="foreign")))
    clock.now += PAUSE
    assert await verifier.verify(foreign)


async def test_withdrawn_key_is_refused_once_the_keys_are_fetched_again(
    verifier: TokenVerifier, keys: RemoteKeys, key_server: KeyServer, project: Project, clock: Clock
) -> None:
    token = project.es256()
    await verifier.verify(token)
    key_server.publish(jwks(SECOND))
    clock.now += FRESH + 1
    assert await verifier.verify(token)
    await settle(keys)
    clock.now += PAUSE
    assert isinstance(await refusal_of(verifier, token), TokenInvalid)


async def test_keys_are_served_for_an_hour_while_their_server_is_down(
    verifier: TokenVerifier, keys: RemoteKeys, key_server: KeyServer, project: Project, clock: Clock
) -> None:
    await verifier.verify(project.es256())
    key_server.answer = says(b"", status="500 Internal Server Error")
    began = clock.now
    while clock.now - began <= STALE - 60:
        clock.now += 60
        assert await verifier.verify(project.es256(exp=clock.now + 60))
        await settle(keys)
    clock.now = began + STALE + 1
    with pytest.raises(KeysUnavailable) as refusal:
        await verifier.verify(project.es256(exp=clock.now + 60))
    assert 1 <= refusal.value.retry_after <= PAUSE
    key_server.publish(jwks(FIRST))
    clock.now += COLD_PAUSE
    assert await verifier.verify(project.es256(exp=clock.now + 60))


async def test_failing_server_is_asked_rarely(
    keys: RemoteKeys, key_server: KeyServer, clock: Clock
) -> None:
    await keys.start()
    key_server.answer = says(b"", status="503 Service Unavailable")
    for _ in range(300):
        clock.now += 1
        await keys.find("ES256", "key-1")
        await settle(keys)
    assert key_server.hits == 1
    for _ in range(300):
        clock.now += 1
        await keys.find("ES256", "key-1")
        await settle(keys)
    assert key_server.hits <= 2 + 300 / PAUSE


async def test_without_any_key_the_server_is_asked_rarely_too(
    keys: RemoteKeys, key_server: KeyServer, clock: Clock
) -> None:
    key_server.answer = says(b"", status="503 Service Unavailable")
    for _ in range(100):
        with pytest.raises(KeysUnavailable):
            await keys.find("ES256", "key-1")
    assert key_server.hits == 1
    key_server.publish(jwks(FIRST))
    clock.now += COLD_PAUSE
    assert await keys.find("ES256", "key-1")
