"""Who is let in with a token, and with which key. All signatures are real."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.errors import TokenForbidden, TokenInvalid
from auth.keys import InlineKeys, KeySet, parse_jwks
from auth.tokens import TokenVerifier
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
    public_jwk,
    rsa_key,
    sign_hs256,
    sign_raw,
)
from tests.auth.project import KEY_SET, SIGNED_IN


async def test_token_signed_with_the_secret_is_accepted(
    verifier: TokenVerifier, project: Project
) -> None:
    assert await verifier.verify(project.hs256()) == SIGNED_IN


async def test_token_signed_with_an_elliptic_curve_key_is_accepted(
    verifier: TokenVerifier, project: Project
) -> None:
    assert await verifier.verify(project.es256()) == SIGNED_IN


async def test_token_signed_with_an_rsa_key_is_accepted(
    verifier: TokenVerifier, project: Project
) -> None:
    assert await verifier.verify(project.rs256()) == SIGNED_IN


async def test_token_without_a_key_id_is_tried_with_every_key(
    verifier: TokenVerifier, project: Project
) -> None:
    assert await verifier.verify(project.es256(key="second", kid=None)) == SIGNED_IN


async def test_audience_may_be_a_list(verifier: TokenVerifier, project: Project) -> None:
    assert await verifier.verify(project.hs256(aud=["other", "authenticated"])) == SIGNED_IN


async def test_user_id_is_the_same_whatever_case_it_is_written_in(
    verifier: TokenVerifier, project: Project
) -> None:
    assert (await verifier.verify(project.hs256(sub=USER.upper()))).user_id == USER


@pytest.mark.parametrize("session", [..., None, ""])
async def test_token_without_a_session_is_accepted(
    verifier: TokenVerifier, project: Project, session: Any
) -> None:
    assert (await verifier.verify(project.hs256(session_id=session))).session_id is None


async def test_fractional_times_are_accepted(verifier: TokenVerifier, project: Project) -> None:
    assert await verifier.verify(project.hs256(exp=NOW + 0.5)) == SIGNED_IN


async def test_anonymous_user_is_accepted_where_allowed(
    verifier: TokenVerifier, project: Project
) -> None:
    verifier_of_all = TokenVerifier(
        keys=verifier.keys, issuer=ISSUER, allow_anonymous=True, clock=Clock()
    )
    assert (await verifier_of_all.verify(project.hs256(is_anonymous=True))).is_anonymous


async def test_secret_alone_accepts_any_issuer(project: Project) -> None:
    verifier = TokenVerifier(
        keys=KeySet(secret=SECRET), issuer=None, allow_anonymous=False, clock=Clock()
    )
    assert await verifier.verify(project.hs256(iss="http://localhost:54321/auth/v1")) == SIGNED_IN


@pytest.mark.parametrize("role", ["anon", "service_role"])
async def test_project_api_key_is_forbidden_with_a_hint(verifier: TokenVerifier, role: str) -> None:
    key = sign_hs256(
        {"iss": "supabase", "ref": "abc", "role": role, "iat": NOW - 9, "exp": NOW + 10**9}
    )
    with pytest.raises(TokenForbidden, match="access token of a signed-in user") as refusal:
        await verifier.verify(key)
    assert refusal.value.reason == "api_key"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("sb_publishable_ACJWlzQHlZjBrEguHvfOxg", "project API key"),
        ("sb_secret_N7UND0UgjKTVK-Uodkm0Hg", "SERVICE_KEYS"),
    ],
)
async def test_new_project_api_key_is_forbidden_with_a_hint(
    verifier: TokenVerifier, key: str, hint: str
) -> None:
    with pytest.raises(TokenForbidden, match=hint):
        await verifier.verify(key)


async def test_id_token_of_the_same_project_is_refused_with_a_hint(
    verifier: TokenVerifier, project: Project
) -> None:
    token = project.es256(
        aud="an-oauth-client", role=..., session_id=..., is_anonymous=..., aal=..., nonce="n"
    )
    with pytest.raises(TokenInvalid, match="access token"):
        await verifier.verify(token)


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", "HS384", "HS512", "RS512", "PS256", "EdDSA", "hs256"]
)
async def test_other_algorithm_is_refused(verifier: TokenVerifier, algorithm: str) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(), alg=algorithm))


@pytest.mark.parametrize("algorithm", [None, ["HS256"], {"HS256": 1}, 256, True])
async def test_algorithm_that_is_no_text_is_refused(
    verifier: TokenVerifier, algorithm: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(), alg=algorithm))


async def test_missing_algorithm_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_raw(b'{"typ":"JWT"}', json.dumps(claims()).encode()))


async def test_unsigned_token_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(jwt.encode(claims(), "", algorithm="none"))


@pytest.mark.parametrize(
    "extension", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"crit": None}]
)
async def test_header_extension_is_refused(
    verifier: TokenVerifier, extension: dict[str, Any]
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(), **extension))


@pytest.mark.parametrize("kid", [7, ["key-1"], {}, "", "k" * 257, True])
async def test_key_id_must_be_a_short_text(verifier: TokenVerifier, kid: Any) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(), kid=kid))


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "key-1' OR '1'='1", "http://evil.example/key", "key-1\x00", "\ud800"]
)
async def test_key_id_only_selects_among_the_keys_there_are(
    verifier: TokenVerifier, project: Project, kid: str
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.es256(kid=kid))


async def test_key_that_travels_in_the_header_is_not_used(verifier: TokenVerifier) -> None:
    stranger = ec_key("stranger")
    headers = {
        "jwk": public_jwk(stranger),
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/",
    }
    for kid in ({}, {"kid": "key-1"}):
        with pytest.raises(TokenInvalid):
            await verifier.verify(
                jwt.encode(claims(), stranger, algorithm="ES256", headers={**headers, **kid})
            )


async def test_public_key_is_no_shared_secret(verifier: TokenVerifier) -> None:
    for key in (rsa_key().public_key(), ec_key().public_key()):
        for public_bytes in (
            key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ):
            header = b'{"alg":"HS256","typ":"JWT","kid":"rsa-1"}'
            with pytest.raises(TokenInvalid):
                await verifier.verify(sign_raw(header, json.dumps(claims()).encode(), public_bytes))


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_shared_secret_is_no_public_key(verifier: TokenVerifier, algorithm: str) -> None:
    for kid in ("key-1", "rsa-1"):
        with pytest.raises(TokenInvalid):
            await verifier.verify(sign_hs256(claims(), alg=algorithm, kid=kid))


async def test_key_of_one_algorithm_does_not_serve_another(
    verifier: TokenVerifier, project: Project
) -> None:
    for token in (project.rs256(kid="key-1"), project.es256(kid="rsa-1")):
        with pytest.raises(TokenInvalid):
            await verifier.verify(token)


async def test_secret_is_not_asked_for_where_there_is_none(project: Project, clock: Clock) -> None:
    keys = KeySet(public=InlineKeys(parse_jwks(KEY_SET)))
    verifier = TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False, clock=clock)
    assert await verifier.verify(project.es256()) == SIGNED_IN
    for secret in ("", SECRET):
        with pytest.raises(TokenInvalid):
            await verifier.verify(sign_hs256(claims(), secret))


async def test_key_set_is_not_asked_for_where_there_is_none(project: Project, clock: Clock) -> None:
    verifier = TokenVerifier(
        keys=KeySet(secret=SECRET), issuer=ISSUER, allow_anonymous=False, clock=clock
    )
    assert await verifier.verify(project.hs256()) == SIGNED_IN
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.es256())


async def test_no_user_is_served_where_there_are_no_keys(project: Project, clock: Clock) -> None:
    verifier = TokenVerifier(keys=KeySet(), issuer=None, allow_anonymous=False, clock=clock)
    for token in (project.hs256(), project.es256(), sign_hs256(claims(), "")):
        with pytest.raises(TokenForbidden, match="service key") as refused:
            await verifier.verify(token)
        assert refused.value.reason == "users_not_served"


async def test_secret_is_raw_bytes_not_base64(clock: Clock) -> None:
    verifier = TokenVerifier(
        keys=KeySet(secret=b64(SECRET.encode())), issuer=ISSUER, allow_anonymous=False, clock=clock
    )
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(), SECRET))


async def test_short_key_never_verifies(clock: Clock) -> None:
    verifier = TokenVerifier(
        keys=KeySet(secret="x" * 31), issuer=ISSUER, allow_anonymous=False, clock=clock
    )
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(), "x" * 31))
