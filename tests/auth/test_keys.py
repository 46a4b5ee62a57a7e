"""Key sets and secrets: what is accepted, and what is refused at start."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from auth.keys import EXAMPLE_SECRETS, MAX_KEYS, check_jwks, check_secret, matching, parse_jwks
from errors import ConfigurationError
from lab.signing import SECRET, ec_key, jwks, public_jwk, rsa_key


def test_keys_are_bound_to_their_one_algorithm() -> None:
    keys = parse_jwks(jwks(public_jwk(ec_key(), kid="a"), public_jwk(rsa_key(), kid="b")))
    assert [(key.kid, key.algorithm) for key in keys] == [("a", "ES256"), ("b", "RS256")]


def test_key_is_found_by_algorithm_first() -> None:
    keys = parse_jwks(jwks(public_jwk(ec_key(), kid="same"), public_jwk(rsa_key(), kid="same")))
    assert [key.algorithm for key in matching(keys, "RS256", "same")] == ["RS256"]
    assert matching(keys, "HS256", "same") == []


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"alg": None},
        {"kty": "oct", "k": "c2VjcmV0LXRoYXQtaXMtdmVyeS1sb25nLWluZGVlZA"},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": ["EC"]},
        {"kty": None},
        {"kid": 7},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"crv": "P-384"},
        {"x": "AAAA"},
        {"x": None},
        {"x": 7},
        {"x": "!"},
        {"y": ""},
    ],
)
def test_unusable_key_is_left_out_and_the_rest_kept(change: dict[str, Any]) -> None:
    good = public_jwk(ec_key(), kid="good")
    keys = parse_jwks(jwks({**public_jwk(ec_key("second"), kid="bad"), **change}, good))
    assert [key.kid for key in keys] == ["good"]


def test_weak_keys_are_left_out() -> None:
    short = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    other_curve = ECAlgorithm.to_jwk(
        ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True
    )
    assert parse_jwks(jwks(short, other_curve)) == ()


def test_private_key_is_read_as_its_public_half() -> None:
    private = ECAlgorithm.to_jwk(ec_key(), as_dict=True)
    assert "d" in private
    (key,) = parse_jwks(jwks(private))
    assert isinstance(key.key, ec.EllipticCurvePublicKey)


def test_number_of_keys_is_bounded() -> None:
    jwk = public_jwk(ec_key())
    assert len(parse_jwks(jwks(*[jwk] * 1000))) == MAX_KEYS


@pytest.mark.parametrize(
    "document",
    ["", "[]", "null", "{}", '{"keys": {}}', '{"keys": null}', "<html>", "[" * 100_000, b"\xff"],
)
def test_what_is_no_key_set_is_an_error(document: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_jwks(document)


@pytest.mark.parametrize("item", [None, 7, "key", [], {}])
def test_what_is_no_key_is_left_out(item: Any) -> None:
    assert parse_jwks(json.dumps({"keys": [item]})) == ()


@pytest.mark.parametrize("document", ["", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "oct"}]}'])
def test_inline_key_set_without_a_key_stops_the_start(document: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_JWKS"):
        check_jwks(document)


def test_inline_key_set_is_read() -> None:
    assert len(check_jwks(jwks(public_jwk(ec_key())).decode())) == 1


# --- the secret -----------------------------------------------------------------------------------


def test_good_secret_passes() -> None:
    check_secret(SECRET, debug=False)


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, "é" * 15])
@pytest.mark.parametrize("debug", [False, True])
def test_secret_under_32_bytes_stops_the_start(secret: str, debug: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"SUPABASE_JWT_SECRET .*32"):
        check_secret(secret, debug=debug)


def test_secret_is_measured_in_bytes() -> None:
    check_secret("é" * 16, debug=False)


@pytest.mark.parametrize("secret", sorted(EXAMPLE_SECRETS))
def test_published_secret_stops_the_start(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="published example"):
        check_secret(secret, debug=False)


def test_published_secret_is_fine_in_debug() -> None:
    check_secret("super-secret-jwt-token-with-at-least-32-characters-long", debug=True)


@pytest.mark.parametrize("space", ["\n", " ", "\r\n"])
def test_secret_with_a_stray_line_end_stops_the_start(space: str) -> None:
    with pytest.raises(ConfigurationError, match="white space"):
        check_secret(SECRET + space, debug=False)


def test_public_key_in_place_of_the_secret_stops_the_start() -> None:
    pem = (
        ec_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    )
    for mistaken in (
        pem.strip(),
        json.dumps(public_jwk(ec_key())),
        jwks(public_jwk(ec_key())).decode(),
    ):
        with pytest.raises(ConfigurationError, match="SUPABASE_JWKS"):
            check_secret(mistaken, debug=False)
