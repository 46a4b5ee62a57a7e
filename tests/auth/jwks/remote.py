"""A key server's keys, and what tests ask of them."""

from __future__ import annotations

import asyncio

from auth.errors import KeysUnavailable, TokenInvalid
from auth.jwks import RemoteKeys
from auth.tokens import TokenVerifier
from lab.signing import ec_key, public_jwk

FIRST = public_jwk(ec_key(), kid="key-1", alg="ES256")
SECOND = public_jwk(ec_key("second"), kid="key-2", alg="ES256")


async def settle(keys: RemoteKeys) -> None:
    """Wait for a fetch in the background."""
    if keys._fetch is not None:
        await asyncio.wait([keys._fetch])


async def refusal_of(verifier: TokenVerifier, token: str) -> Exception:
    try:
        await verifier.verify(token)
    except (TokenInvalid, KeysUnavailable) as refusal:
        return refusal
    raise AssertionError("a forged token got in")
