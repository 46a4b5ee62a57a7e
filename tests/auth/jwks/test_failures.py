"""Key servers that fail, hang or send wrong answers."""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest

from auth.authenticator import Authenticator
from auth.errors import KeysUnavailable, TokenForbidden, TokenInvalid, UnknownKey
from auth.jwks import COLD_PAUSE, DEADLINE, FRESH, MAX_BYTES, MAX_WAITING, WAIT, RemoteKeys
from auth.keys import KeySet
from auth.service_keys import ServiceKeys
from auth.tokens import TokenVerifier
from errors import GateError
from gate.errors import TooManyFailures
from gate.gate import Gate
from lab.signing import ISSUER, SECRET, Clock, Project, jwks
from quota.memory import MemoryQuota
from quota.receipt import Limits
from tests.auth.jwks.remote import FIRST, settle
from tests.auth.key_server import Answer, KeyServer, says
from tests.gate.asgi import ROUTES, USUAL_BOUNDS, RecordingApp, post

WRONG_ANSWERS: dict[str, Answer] = {
    "huge": says(b'{"keys": [' + b" " * MAX_BYTES + b"]}"),
    "html": says(b"<!doctype html><title>Login</title>", headers="Content-Type: text/html\r\n"),
    "empty": says(b""),
    "a list": says(b"[]"),
    "redirect": says(
        b"", status="302 Found", headers="Location: https://evil.example/jwks.json\r\n"
    ),
    "not found": says(jwks(FIRST), status="404 Not Found"),
    "compressed": says(gzip.compress(jwks(FIRST)), headers="Content-Encoding: gzip\r\n"),
    "cut off": says(jwks(FIRST)[:-9]),
    "too deep": says(b"[" * 60_000),
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=list(WRONG_ANSWERS))
async def test_wrong_answer_is_unavailability_and_keeps_the_keys_there_are(
    key_server: KeyServer, clock: Clock, answer: Answer
) -> None:
    key_server.answer = answer
    remote = RemoteKeys(key_server.url, clock=clock)
    with pytest.raises(KeysUnavailable):
        await remote.find("ES256", "key-1")
    clock.now += COLD_PAUSE
    key_server.publish(jwks(FIRST))
    assert await remote.find("ES256", "key-1")
    key_server.answer = answer
    clock.now += FRESH + 1
    await remote.find("ES256", "key-1")
    await settle(remote)
    assert await remote.find("ES256", "key-1")
    await remote.aclose()


async def test_redirect_is_not_followed(keys: RemoteKeys, key_server: KeyServer) -> None:
    key_server.answer = says(
        b"", status="302 Found", headers=f"Location: {key_server.url}?elsewhere\r\n"
    )
    assert not await keys.start()
    assert key_server.hits == 1


async def test_empty_key_set_makes_a_token_invalid_not_the_keys_unavailable(
    verifier: TokenVerifier, key_server: KeyServer, project: Project
) -> None:
    """What a project that still signs with its secret publishes."""
    key_server.publish(jwks())
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.es256())


async def test_an_empty_key_set_is_known_at_start_and_lets_nobody_in(
    keys: RemoteKeys, key_server: KeyServer
) -> None:
    """A legacy project that is known by its URL alone."""
    key_server.publish(jwks())
    assert await keys.start()
    assert KeySet(public=keys).empty
    assert not KeySet(public=keys, secret=SECRET).empty


async def test_keys_that_were_not_fetched_are_not_an_empty_set(
    keys: RemoteKeys, key_server: KeyServer
) -> None:
    assert not KeySet(public=keys).empty
    await keys.start()
    assert not KeySet(public=keys).empty


async def test_hung_server_is_given_up_on(keys: RemoteKeys, key_server: KeyServer) -> None:
    key_server.answer = key_server.hang
    began = time.perf_counter()
    outcomes = await asyncio.gather(
        *(keys.find("ES256", "key-1") for _ in range(20)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {KeysUnavailable}
    assert time.perf_counter() - began < DEADLINE + 0.5
    assert key_server.hits == 1


async def test_known_keys_are_served_at_once_while_their_server_hangs(
    verifier: TokenVerifier,
    keys: RemoteKeys,
    key_server: KeyServer,
    project: Project,
    clock: Clock,
) -> None:
    await verifier.verify(project.es256())
    key_server.answer = key_server.hang
    clock.now += FRESH + 1
    forged = [
        project.es256(key="stranger", kid=f"unknown-{n}", exp=clock.now + 60) for n in range(300)
    ]
    strangers = [asyncio.create_task(verifier.verify(token)) for token in forged]
    await asyncio.sleep(0)
    assert await verifier.verify(project.es256(jti="a user", exp=clock.now + 60))
    assert not all(stranger.done() for stranger in strangers)
    outcomes = await asyncio.gather(*strangers, return_exceptions=True)
    assert keys._fetch is not None  # it goes on: nobody waits for the end of it
    assert {type(outcome) for outcome in outcomes} == {UnknownKey}
    assert key_server.hits == 2


async def test_no_more_than_a_number_wait_for_a_key_that_may_be_made_up(
    verifier: TokenVerifier, keys: RemoteKeys, key_server: KeyServer, project: Project
) -> None:
    await verifier.verify(project.es256())
    key_server.answer = key_server.hang
    forged = [project.es256(key="stranger", kid=f"unknown-{n}") for n in range(2 * MAX_WAITING)]
    strangers = [asyncio.create_task(verifier.verify(token)) for token in forged]
    await asyncio.sleep(WAIT / 2)
    assert sum(not stranger.done() for stranger in strangers) == MAX_WAITING
    await asyncio.gather(*strangers, return_exceptions=True)
    assert keys._waiting == 0


WORTHLESS: dict[str, dict[str, object]] = {
    "expired": {"exp": 1},
    "another issuer": {"iss": "https://example.com/auth/v1"},
    "another audience": {"aud": "other"},
    "no user": {"sub": "not-a-uuid"},
    "service role": {"role": "service_role"},
}


@pytest.mark.parametrize("claims", WORTHLESS.values(), ids=list(WORTHLESS))
async def test_no_key_is_asked_for_that_could_not_make_the_token_good(
    verifier: TokenVerifier,
    key_server: KeyServer,
    project: Project,
    claims: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await verifier.verify(project.es256())
    key_server.answer = key_server.hang
    with pytest.raises((TokenInvalid, TokenForbidden)):
        await verifier.verify(project.es256(key="stranger", kid="unknown", **claims))
    assert key_server.hits == 1
    assert "issuer_mismatch" not in caplog.text  # anybody can write another


async def test_made_up_key_ids_count_against_their_address(
    verifier: TokenVerifier, key_server: KeyServer, project: Project, clock: Clock
) -> None:
    await verifier.verify(project.es256())
    key_server.answer = key_server.hang
    quota = MemoryQuota(Limits(100, 60.0, None), clock=clock)
    gate = Gate(
        RecordingApp(),
        routes=ROUTES,
        authenticator=Authenticator(verifier, ServiceKeys(), clock=clock),
        quota=quota,
        **USUAL_BOUNDS | {"failed_auth_per_minute": 3},
    )
    refusals = []
    for number in range(5):
        forged = project.es256(key="stranger", kid=f"unknown-{number}")
        with pytest.raises(GateError) as refusal:
            await post(forged).through(gate)
        refusals.append(refusal.type)
    assert refusals == [UnknownKey] * 3 + [TooManyFailures] * 2
    assert (await post(project.es256(jti="behind the same address")).through(gate)).status == 200


async def test_server_that_drips_is_given_up_on(keys: RemoteKeys, key_server: KeyServer) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    key_server.answer = drip
    began = time.perf_counter()
    assert not await keys.start()
    assert time.perf_counter() - began < DEADLINE + 0.5


async def test_unreachable_server_is_unavailability(clock: Clock) -> None:
    for url in (
        "http://127.0.0.1:1/jwks.json",
        "http://nowhere.invalid/jwks.json",
        "http://[::bad/",
    ):
        remote = RemoteKeys(url, clock=clock)
        assert not await remote.start()
        await remote.aclose()


async def test_caller_who_leaves_does_not_end_the_fetch_for_the_others(
    keys: RemoteKeys, key_server: KeyServer
) -> None:
    key_server.answer = says(jwks(FIRST), pause=0.1)
    leaving = asyncio.create_task(keys.find("ES256", "key-1"))
    staying = asyncio.create_task(keys.find("ES256", "key-1"))
    await asyncio.sleep(0.02)
    leaving.cancel()
    assert await staying
    assert key_server.hits == 1


async def test_secret_works_while_the_key_server_is_down(
    key_server: KeyServer, clock: Clock, project: Project
) -> None:
    key_server.answer = says(b"", status="500 Internal Server Error")
    keys = KeySet(secret=project.secret, public=RemoteKeys(key_server.url, clock=clock))
    verifier = TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False, clock=clock)
    assert await verifier.verify(project.hs256())
    assert key_server.hits == 0
    await keys.aclose()
