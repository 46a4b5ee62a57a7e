"""Every rule of a token, one test each. All signatures are real; only the clock is ours."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.errors import TokenExpired, TokenForbidden, TokenInvalid, TokenTooLarge
from auth.keys import InlineKeys, KeySet, parse_jwks
from auth.principal import Principal
from auth.tokens import MAX_TOKEN_BYTES, TokenVerifier
from lab.signing import (
    ISSUER,
    NOW,
    SECRET,
    SESSION,
    USER,
    Clock,
    Project,
    b64,
    claims,
    ec_key,
    jwks,
    public_jwk,
    rsa_key,
    sign_hs256,
    sign_raw,
)

KEY_SET = jwks(
    public_jwk(ec_key(), kid="key-1", alg="ES256"),
    public_jwk(ec_key("second"), kid="key-2", alg="ES256"),
    public_jwk(rsa_key(), kid="rsa-1", alg="RS256"),
)
SIGNED_IN = Principal(user_id=USER, session_id=SESSION, is_anonymous=False)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture
def verifier(clock: Clock) -> TokenVerifier:
    """Accepts the secret and the key set, as in the middle of a key migration."""
    keys = KeySet(secret=SECRET, public=InlineKeys(parse_jwks(KEY_SET)))
    return TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False, clock=clock)


# --- who gets in --------------------------------------------------------------------------------


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
    open_house = TokenVerifier(
        keys=verifier.keys, issuer=ISSUER, allow_anonymous=True, clock=Clock()
    )
    assert (await open_house.verify(project.hs256(is_anonymous=True))).is_anonymous


async def test_secret_alone_accepts_any_issuer(project: Project) -> None:
    verifier = TokenVerifier(
        keys=KeySet(secret=SECRET), issuer=None, allow_anonymous=False, clock=Clock()
    )
    assert await verifier.verify(project.hs256(iss="http://localhost:54321/auth/v1")) == SIGNED_IN


# --- claims -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "issuer", [..., None, "", ISSUER + "/", ISSUER.upper(), "https://evil.example", [ISSUER]]
)
async def test_other_issuer_is_refused(
    verifier: TokenVerifier, project: Project, issuer: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(iss=issuer))


@pytest.mark.parametrize(
    "expiry",
    [
        ...,
        None,
        "",
        str(NOW + 60),
        True,
        [NOW + 60],
        {},
        -1,
        1e300,
        10**400,
        float("inf"),
        float("nan"),
    ],
)
async def test_expiry_must_be_a_plausible_number(
    verifier: TokenVerifier, project: Project, expiry: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(exp=expiry))


@pytest.mark.parametrize("expiry", [0, NOW - 1, NOW])
async def test_expired_token_is_refused_as_expired(
    verifier: TokenVerifier, project: Project, expiry: float
) -> None:
    with pytest.raises(TokenExpired):
        await verifier.verify(project.hs256(exp=expiry))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
@pytest.mark.parametrize("value", [NOW + 61, "soon", None, True, [], 10**400])
async def test_token_from_the_future_is_refused(
    verifier: TokenVerifier, claim: str, value: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(**{claim: value})))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_clocks_may_differ_by_a_minute(verifier: TokenVerifier, claim: str) -> None:
    assert await verifier.verify(sign_hs256(claims(**{claim: NOW + 60}))) == SIGNED_IN


@pytest.mark.parametrize(
    "audience", [..., None, "", "anon", [], ["anon"], [["authenticated"]], {"authenticated": 1}, 1]
)
async def test_other_audience_is_refused(
    verifier: TokenVerifier, project: Project, audience: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(aud=audience))


@pytest.mark.parametrize(
    "subject",
    [
        ...,
        None,
        "",
        "admin",
        7,
        [USER],
        USER + "\n",
        " " + USER,
        "{" + USER + "}",
        USER.replace("-", ""),
        "６" + USER[1:],
    ],
)
async def test_subject_must_be_a_uuid(
    verifier: TokenVerifier, project: Project, subject: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(sub=subject))


@pytest.mark.parametrize("session", ["x", 7, [SESSION], SESSION + "0"])
async def test_session_must_be_a_uuid_if_there_is_one(
    verifier: TokenVerifier, project: Project, session: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(session_id=session))


@pytest.mark.parametrize(
    "role", [..., None, "", "postgres", "Authenticated", ["authenticated"], "anon", "service_role"]
)
async def test_other_role_is_forbidden(
    verifier: TokenVerifier, project: Project, role: Any
) -> None:
    with pytest.raises(TokenForbidden):
        await verifier.verify(project.hs256(role=role))


async def test_anonymous_user_is_forbidden(verifier: TokenVerifier, project: Project) -> None:
    with pytest.raises(TokenForbidden, match="Sign in"):
        await verifier.verify(project.hs256(is_anonymous=True))


@pytest.mark.parametrize("anonymous", ["true", 1, None, []])
async def test_anonymity_must_be_a_boolean(
    verifier: TokenVerifier, project: Project, anonymous: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(is_anonymous=anonymous))


# --- keys that look like tokens -------------------------------------------------------------------


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


# --- headers ------------------------------------------------------------------------------------


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


# --- alg confusion ------------------------------------------------------------------------------


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


# --- signatures ---------------------------------------------------------------------------------


async def test_signature_of_another_project_is_refused(
    verifier: TokenVerifier, project: Project
) -> None:
    for token in (
        project.hs256("another secret of at least 32 bytes"),
        project.es256(key="x"),
        project.rs256(key="x"),
    ):
        with pytest.raises(TokenInvalid):
            await verifier.verify(token)


async def test_changed_token_is_refused(verifier: TokenVerifier, project: Project) -> None:
    head, body, signature = project.hs256().split(".")
    richer = b64(json.dumps(claims(sub="00000000-0000-4000-8000-000000000000")).encode())
    for token in (
        f"{head}.{richer}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}",
    ):
        with pytest.raises(TokenInvalid):
            await verifier.verify(token)


async def test_malleable_signature_changes_nothing_about_the_identity(
    verifier: TokenVerifier, project: Project
) -> None:
    """(r, s) and (r, -s) are both valid: neither the token nor its signature may name the caller."""
    head, body, signature = project.es256().split(".")
    raw = jwt.utils.base64url_decode(signature)
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    twin = f"{head}.{body}.{b64(r.to_bytes(32) + (P256_ORDER - s).to_bytes(32))}"
    assert (
        await verifier.verify(twin)
        == await verifier.verify(f"{head}.{body}.{signature}")
        == SIGNED_IN
    )


async def test_signature_in_another_encoding_is_refused(verifier: TokenVerifier) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    signing_input = f"{b64(json.dumps({'alg': 'ES256', 'kid': 'key-1'}).encode())}.{b64(json.dumps(claims()).encode())}"
    der = ec_key().sign(signing_input.encode(), ECDSA(SHA256()))
    assert decode_dss_signature(der)
    for signature in (der, b"", bytes(64), bytes(63)):
        with pytest.raises(TokenInvalid):
            await verifier.verify(f"{signing_input}.{b64(signature)}")


# --- form ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token", ["", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "null", "Bearer x", "e30.e30.e30"]
)
async def test_what_is_no_token_is_refused(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)


async def test_encrypted_token_is_refused(verifier: TokenVerifier, project: Project) -> None:
    with pytest.raises(TokenInvalid, match="three parts"):
        await verifier.verify(project.hs256() + ".x.y")


async def test_token_over_eight_kibibytes_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenTooLarge, match=f"at most {MAX_TOKEN_BYTES} are read. Remove claims"):
        await verifier.verify(sign_hs256(claims(padding="x" * MAX_TOKEN_BYTES)))


@pytest.mark.parametrize("letter", ["a", ".", "{", "é", "\ud800"])
async def test_megabyte_of_one_letter_is_refused_at_once(
    verifier: TokenVerifier, letter: str
) -> None:
    began = time.perf_counter()
    with pytest.raises(TokenTooLarge):
        await verifier.verify(letter * 1_000_000)
    assert time.perf_counter() - began < 0.1


async def test_text_outside_ascii_is_refused(verifier: TokenVerifier, project: Project) -> None:
    for token in (project.hs256() + "é", "ｅ" + project.hs256()[1:], project.hs256() + "\ud800"):
        with pytest.raises(TokenInvalid):
            await verifier.verify(token)


@pytest.mark.parametrize("padding", ["=", "==", "\n", " ", "+", "/"])
async def test_sloppy_base64_is_refused(
    verifier: TokenVerifier, project: Project, padding: str
) -> None:
    for part in range(3):
        parts = project.hs256().split(".")
        parts[part] += padding
        with pytest.raises(TokenInvalid):
            await verifier.verify(".".join(parts))


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256","alg":"none"}',
        b'{"alg":"none","alg":"HS256"}',
        b'["HS256"]',
        b'"HS256"',
        b"{}",
        b"",
        b"\xff",
        b'{"alg":"HS256"} x',
        b'\xef\xbb\xbf{"alg":"HS256"}',
        b'{"alg":"HS256","n":NaN}',
        b"[" * 4000,
        b'{"alg":"HS256","x":' + b"[" * 4000,
        b'{"alg":"HS256","n":' + b"9" * 5000 + b"}",
    ],
)
async def test_header_must_be_one_plain_json_object(verifier: TokenVerifier, header: bytes) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_raw(header, json.dumps(claims()).encode()))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"role":"anon",' + json.dumps(claims()).encode()[1:],
        json.dumps(claims()).encode()[:-1] + b',"sub":"00000000-0000-4000-8000-000000000000"}',
        json.dumps([claims()]).encode(),
        b"",
        b"null",
        b"\xff\xfe",
        b'{"exp":Infinity}',
        b"[" * 4000,
        b'{"exp":' + b"9" * 4999 + b"}",
    ],
)
async def test_claims_must_be_one_plain_json_object(
    verifier: TokenVerifier, payload: bytes
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_raw(b'{"alg":"HS256"}', payload))
