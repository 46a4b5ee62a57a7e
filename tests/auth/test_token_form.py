"""Signatures and spellings of tokens that are refused."""

from __future__ import annotations

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from auth.errors import TokenInvalid, TokenTooLarge
from auth.tokens import MAX_TOKEN_BYTES, TokenVerifier
from lab.signing import Project, b64, claims, ec_key, sign_hs256, sign_raw
from tests.auth.project import SIGNED_IN

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


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
    """(r, s) and (r, -s) are both valid, so neither token nor signature may identify a caller."""
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

    header = json.dumps({"alg": "ES256", "kid": "key-1"}).encode()
    signing_input = f"{b64(header)}.{b64(json.dumps(claims()).encode())}"
    der = ec_key().sign(signing_input.encode(), ECDSA(SHA256()))
    assert decode_dss_signature(der)
    for signature in (der, b"", bytes(64), bytes(63)):
        with pytest.raises(TokenInvalid):
            await verifier.verify(f"{signing_input}.{b64(signature)}")


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
