"""The keys of a Supabase project, and tokens signed with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

NOW = 1_750_000_000.0  # seconds since 1970, where the clocks of tests begin
ISSUER = "https://abcdefghijklmnopqrst.supabase.co/auth/v1"
SECRET = "0f6f0cc1f1c1aa7a5a0b3a4b8d8a1c53"
USER = "6b0e6f4e-53f2-4f7d-9c0a-1a2b3c4d5e6f"
SESSION = "0d7c2d5e-1111-4222-8333-444455556666"

Claims = dict[str, Any]


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


_EC_KEYS: dict[str, ec.EllipticCurvePrivateKey] = {}
_RSA_KEYS: dict[str, rsa.RSAPrivateKey] = {}


def ec_key(name: str = "first") -> ec.EllipticCurvePrivateKey:
    """One P-256 key per name."""
    return _EC_KEYS.setdefault(name, ec.generate_private_key(ec.SECP256R1()))


def rsa_key(name: str = "first") -> rsa.RSAPrivateKey:
    """One 2048-bit key per name."""
    if name not in _RSA_KEYS:  # generating one takes half a second
        _RSA_KEYS[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _RSA_KEYS[name]


def public_jwk(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, **members: Any
) -> dict[str, Any]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "use": "sig", **members}
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "key_ops": ["verify"], "use": "sig", **members}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> Claims:
    """The claims of a signed-in user's access token; a change to `...` removes a claim."""
    merged = {
        "iss": ISSUER,
        "sub": USER,
        "aud": "authenticated",
        "exp": NOW + 3600,
        "iat": NOW - 10,
        "email": "someone@example.com",
        "role": "authenticated",
        "aal": "aal1",
        "session_id": SESSION,
        "is_anonymous": False,
        **changes,
    }
    return {name: value for name, value in merged.items() if value is not ...}


@dataclass
class Project:
    """Signs tokens with each algorithm."""

    secret: str = SECRET

    def hs256(self, secret: str | None = None, **changes: Any) -> str:
        return sign_hs256(claims(**changes), secret or self.secret)

    def es256(self, *, key: str = "first", kid: str | None = "key-1", **changes: Any) -> str:
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(claims(**changes), ec_key(key), algorithm="ES256", headers=headers)

    def rs256(self, *, key: str = "first", kid: str | None = "rsa-1", **changes: Any) -> str:
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(claims(**changes), rsa_key(key), algorithm="RS256", headers=headers)

    def user_token(self) -> str:
        """The token of a new user."""
        return self.hs256(sub=str(uuid.uuid4()))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_raw(header: bytes, payload: bytes, secret: bytes = SECRET.encode()) -> str:
    """A token with an HS256 signature over any bytes, well formed or not."""
    signing_input = f"{b64(header)}.{b64(payload)}"
    digest = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{b64(digest)}"


def sign_hs256(content: Mapping[str, Any], secret: str = SECRET, **header: Any) -> str:
    head = {"alg": "HS256", "typ": "JWT", **header}
    return sign_raw(json.dumps(head).encode(), json.dumps(content).encode(), secret.encode())
