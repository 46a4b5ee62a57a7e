"""Tokens and service keys: who is known without verification, and for how long."""

from __future__ import annotations

import hashlib

import pytest

from auth.authenticator import REMEMBERED, Authenticator, Credential
from auth.errors import (
    ServiceKeyMistyped,
    ServiceKeyUnknown,
    TokenExpired,
    TokenForbidden,
    TokenInvalid,
    TokenMissing,
)
from auth.keys import KeySet
from auth.principal import Principal
from auth.service_key_format import new_key
from auth.service_keys import ServiceKeys
from auth.tokens import TokenVerifier
from lab.service_keys import KEY
from lab.signing import ISSUER, NOW, SECRET, SESSION, USER, Clock, Project

SIGNED_IN = Principal(user_id=USER, session_id=SESSION)
SUPABASE_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"


@pytest.fixture
def keys() -> KeySet:
    return KeySet(secret=SECRET)


@pytest.fixture
def authenticator(keys: KeySet, clock: Clock) -> Authenticator:
    tokens = TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False, clock=clock)
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, SUPABASE_KEY)]
    listed = f"indexer:{digests[0]}:priority=bulk,edge:{digests[1]}"
    return Authenticator(tokens, ServiceKeys(listed), clock=clock)


async def test_verified_token_is_recalled_until_it_expires(
    authenticator: Authenticator, project: Project, clock: Clock
) -> None:
    token = Credential.of(project.hs256(exp=NOW + 5))
    assert authenticator.recall(token) is None
    await authenticator.verify(token)
    assert authenticator.recall(token) == SIGNED_IN
    clock.now += 5
    assert authenticator.recall(token) is None
    with pytest.raises(TokenExpired):
        await authenticator.verify(token)


async def test_verified_token_is_checked_again_once_in_a_while(
    authenticator: Authenticator, keys: KeySet, project: Project, clock: Clock
) -> None:
    token = Credential.of(project.hs256())
    await authenticator.verify(token)
    keys.secret = "the secret that replaced the first one"
    clock.now += REMEMBERED - 1
    assert authenticator.recall(token) == SIGNED_IN
    clock.now += 1
    assert authenticator.recall(token) is None
    with pytest.raises(TokenInvalid):
        await authenticator.verify(token)


async def test_refused_token_is_not_recalled(
    authenticator: Authenticator, project: Project
) -> None:
    token = Credential.of(project.hs256(role="anon"))
    with pytest.raises(TokenForbidden):
        await authenticator.verify(token)
    assert authenticator.recall(token) is None


async def test_nothing_is_told_to_be_missing(authenticator: Authenticator) -> None:
    assert authenticator.recall(Credential.of("")) is None
    with pytest.raises(TokenMissing):
        await authenticator.verify(Credential.of(""))


def test_a_listed_key_is_its_service(authenticator: Authenticator) -> None:
    found = authenticator.recall(Credential.of(KEY))
    assert found == Principal("service:indexer", caller="service:indexer", bulk=True)


def test_a_projects_own_secret_key_may_be_listed(authenticator: Authenticator) -> None:
    found = authenticator.recall(Credential.of(SUPABASE_KEY))
    assert found == Principal("service:edge", caller="service:edge")


async def test_a_wrong_key_is_told_to_be_unknown(authenticator: Authenticator) -> None:
    key = Credential.of(new_key())
    assert authenticator.recall(key) is None
    with pytest.raises(ServiceKeyUnknown):
        await authenticator.verify(key)


async def test_a_projects_key_that_is_not_listed_is_told_how_to_be(
    authenticator: Authenticator,
) -> None:
    key = Credential.of(SUPABASE_KEY[:-1] + "A")
    assert authenticator.recall(key) is None
    with pytest.raises(TokenForbidden, match="SERVICE_KEYS") as refusal:
        await authenticator.verify(key)
    assert refusal.value.reason == "api_key"


@pytest.mark.parametrize(
    "mistyped",
    [
        KEY[:-1],
        KEY + "0",
        KEY[:20],
        "embk_",
        KEY[:10] + chr(ord(KEY[10]) ^ 1) + KEY[11:],
        KEY[:-1] + chr(ord(KEY[-1]) ^ 1),
        f"{KEY[:30]} {KEY[30:]}",
        f'{KEY}"',
    ],
)
async def test_a_truncated_or_mistyped_key_is_told_to_be(
    authenticator: Authenticator, mistyped: str
) -> None:
    key = Credential.of(mistyped)
    assert authenticator.recall(key) is None
    with pytest.raises(ServiceKeyMistyped) as refusal:
        await authenticator.verify(key)
    assert mistyped[5:] == "" or mistyped[5:] not in str(refusal.value)
