"""The start-up check of SUPABASE_ANON_KEY: a public key that anybody holds must open nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from auth.errors import TokenForbidden
from auth.tokens import TokenVerifier, read_header, strict_json_object, unverified_payload
from errors import ConfigurationError, GateError


async def check_anon_key(
    anon_key: str, *, verifier: TokenVerifier, supabase_url: str | None
) -> None:
    """Raises ConfigurationError unless the key belongs to the secret and the verifier refuses it.

    Keys of the new kind (``sb_publishable_…``) are no tokens, and without the secret nothing can be
    said about an old one: both pass.
    """
    if anon_key.startswith("sb_publishable_"):
        return
    if anon_key.startswith("sb_secret_"):
        raise ConfigurationError(
            "SUPABASE_ANON_KEY holds a secret key: put the public one, and replace both."
        )
    claims = _claims(anon_key)
    if verifier.keys.secret is None:
        return
    try:
        await verifier.signed_claims(anon_key, read_header(anon_key))
    except GateError:
        raise ConfigurationError(_wrong_one(claims, supabase_url)) from None
    await _check_refused(anon_key, claims, verifier)


async def _check_refused(anon_key: str, claims: dict[str, Any], verifier: TokenVerifier) -> None:
    if claims.get("role") != "anon":
        raise ConfigurationError(
            "SUPABASE_ANON_KEY is not the anon key (its role is another): copy the one called anon, public."
        )
    try:
        await verifier.verify(anon_key)
    except TokenForbidden:
        return
    raise ConfigurationError(
        "SUPABASE_ANON_KEY would be let in as a user: copy the one called anon, public."
    )


def _claims(anon_key: str) -> dict[str, Any]:
    try:
        read_header(anon_key)
        return strict_json_object(unverified_payload(anon_key))
    except GateError:
        raise ConfigurationError(
            "SUPABASE_ANON_KEY is not a key: copy the one called anon, public, from your project's settings."
        ) from None


def _wrong_one(claims: dict[str, Any], supabase_url: str | None) -> str:
    """Which setting to look at: a hosted project's key names its project, and so does the URL."""
    ours = (urlsplit(supabase_url or "").hostname or "").partition(".")[0]
    theirs = claims.get("ref")
    if theirs is None or not ours:
        return (
            "SUPABASE_ANON_KEY is not signed with SUPABASE_JWT_SECRET: one of them is from another "
            "project. Copy both again from the same project's settings."
        )
    if theirs == ours:
        return "SUPABASE_JWT_SECRET is wrong: the anon key of SUPABASE_URL is not signed with it."
    return "SUPABASE_ANON_KEY is wrong: it belongs to another project than SUPABASE_URL."
