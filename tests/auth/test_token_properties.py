"""Whatever a token says, it is refused or has a user, and a user only if it is signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.api_jws import PyJWS

from auth.errors import KeysUnavailable, TokenExpired, TokenForbidden, TokenInvalid
from auth.keys import ALGORITHMS, Algorithm, InlineKeys, KeySet, parse_jwks
from auth.principal import Principal
from auth.tokens import TokenVerifier, read_header
from errors import GateError
from lab.signing import (
    ISSUER,
    NOW,
    SECRET,
    USER,
    Clock,
    Project,
    b64,
    claims,
    ec_key,
    jwks,
    public_jwk,
    rsa_key,
    sign_raw,
)

REFUSALS = (TokenInvalid, TokenExpired, TokenForbidden, KeysUnavailable)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([ISSUER, USER, NOW, "HS256"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS: dict[str, Any] = {
    "HS256": SECRET,
    "ES256": ec_key().public_key(),
    "RS256": rsa_key().public_key(),
}
PUBLIC = jwks(public_jwk(ec_key(), kid="key-1"), public_jwk(rsa_key(), kid="rsa-1"))

header_members = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "cty", "zip"])
    | st.text(max_size=4),
    json_values | st.sampled_from(["HS256", "ES256", "RS256", "none", "key-1"]),
    max_size=5,
)
claim_changes = st.dictionaries(
    st.sampled_from(
        ["iss", "sub", "aud", "exp", "nbf", "iat", "role", "session_id", "is_anonymous", "jti"]
    ),
    json_values | st.just(...),
    max_size=4,
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def verifier() -> TokenVerifier:
    keys = KeySet(
        secret=SECRET, public=InlineKeys(parse_jwks(jwks(public_jwk(ec_key(), kid="key-1"))))
    )
    return TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False, clock=Clock())


def outcome(runner: asyncio.Runner, verifier: TokenVerifier, token: str) -> Principal | GateError:
    try:
        return runner.run(verifier.verify(token))
    except REFUSALS as refusal:
        return refusal


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(alphabet="abcXYZ019-_.=", max_size=200))
def test_any_text_is_refused(runner: asyncio.Runner, verifier: TokenVerifier, text: str) -> None:
    assert isinstance(outcome(runner, verifier, text), GateError)


@settings(max_examples=400, deadline=None)
@given(header=header_members, changes=claim_changes)
def test_signed_token_gets_in_only_as_the_user_it_names(
    runner: asyncio.Runner, verifier: TokenVerifier, header: dict[str, Any], changes: dict[str, Any]
) -> None:
    content = claims(**changes)
    token = sign_raw(json.dumps({"alg": "HS256", **header}).encode(), json.dumps(content).encode())
    found = outcome(runner, verifier, token)
    if isinstance(found, Principal):
        assert header.get("alg", "HS256") == "HS256"
        assert not header.keys() & {"crit", "b64"}
        assert (content["iss"], content["role"]) == (ISSUER, "authenticated")
        assert found.user_id == content["sub"].lower()
        assert content["exp"] > NOW


@settings(max_examples=400, deadline=None)
@given(header=header_members, signature=st.binary(max_size=96))
def test_unsigned_token_never_gets_in(
    runner: asyncio.Runner, verifier: TokenVerifier, header: dict[str, Any], signature: bytes
) -> None:
    parts = [json.dumps(header).encode(), json.dumps(claims()).encode(), signature]
    assert isinstance(outcome(runner, verifier, ".".join(map(b64, parts))), GateError)


@settings(max_examples=300, deadline=None)
@given(header=st.binary(max_size=60), payload=st.binary(max_size=60))
def test_signed_bytes_that_are_no_claims_never_get_in(
    runner: asyncio.Runner, verifier: TokenVerifier, header: bytes, payload: bytes
) -> None:
    assert isinstance(
        outcome(runner, verifier, sign_raw(header, json.dumps(claims()).encode())), GateError
    )
    assert isinstance(outcome(runner, verifier, sign_raw(b'{"alg":"HS256"}', payload)), GateError)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 10**6), letter=st.sampled_from("ABYZabyz0189-_.="))
def test_one_changed_character_shuts_a_token_out(
    runner: asyncio.Runner, verifier: TokenVerifier, position: int, letter: str
) -> None:
    token = sign_raw(b'{"alg":"HS256","typ":"JWT"}', json.dumps(claims()).encode())
    position %= len(token)
    changed = token[:position] + letter + token[position + 1 :]
    found = outcome(runner, verifier, changed)
    assert isinstance(found, Principal) == (changed == token)


@settings(max_examples=600, deadline=None)
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    position=st.integers(0, 10**6),
    letters=st.text("ABYZabyz0189-_.=", max_size=3),
    cut=st.integers(0, 3),
)
def test_signatures_hold_as_those_of_the_library_do(
    runner: asyncio.Runner, algorithm: Algorithm, position: int, letters: str, cut: int
) -> None:
    """PyJWT's own reading of a JWS, which costs up to ten times as much, agrees on every token."""
    project, key = Project(), KEYS[algorithm]
    token = {"HS256": project.hs256, "ES256": project.es256, "RS256": project.rs256}[algorithm]()
    position %= len(token)
    changed = token[:position] + letters + token[position + cut :]
    try:
        expected = json.loads(PyJWS().decode(changed, key, algorithms=[algorithm]))
    except (jwt.PyJWTError, ValueError):
        expected = None
    keys = KeySet(secret=SECRET, public=InlineKeys(parse_jwks(PUBLIC)))
    signed = TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False).signed_claims
    try:
        found = runner.run(signed(changed, read_header(changed)))
    except GateError:
        found = None
    assert found == expected
