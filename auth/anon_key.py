"""The check of SUPABASE_ANON_KEY at start: this public key must never be accepted as a token."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from auth.errors import TokenForbidden
from auth.tokens import TokenVerifier, read_header, strict_json_object, unverified_payload
from errors import ConfigurationError, GateError


def require_public(anon_key: str) -> None:
    """Check that everybody may read the key, as far as that can be seen without the secret.

    Raises:
        ConfigurationError: it is a secret key, one of another role, or no key.
    """
    if anon_key.startswith("sb_publishable_"):
        return
    if anon_key.startswith("sb_secret_"):
        raise ConfigurationError(
            "SUPABASE_ANON_KEY holds a secret key: put the public one, and replace both."
        )
    if _claims(anon_key).get("role") != "anon":
        raise ConfigurationError(
            "SUPABASE_ANON_KEY has another role than anon: copy the key called anon, public."
        )


async def check_anon_key(
    anon_key: str, *, verifier: TokenVerifier, supabase_url: str | None
) -> None:
    """Check that the key is public, signed with the secret, and that the verifier refuses it.

    Keys of the new kind (`sb_publishable_…`) are not tokens, and without the secret the signature
    of an old key cannot be checked: both pass.

    Raises:
        ConfigurationError: the key is another one, belongs to another project or would be accepted.
    """
    require_public(anon_key)
    if anon_key.startswith("sb_publishable_") or verifier.keys.secret is None:
        return
    try:
        await verifier.signed_claims(anon_key, read_header(anon_key))
    except GateError:
        raise ConfigurationError(_wrong_one(_claims(anon_key), supabase_url)) from None
    await _check_refused(anon_key, verifier)


async def _check_refused(anon_key: str, verifier: TokenVerifier) -> None:
    try:
        await verifier.verify(anon_key)
    except TokenForbidden:
        return
    raise ConfigurationError(
        "SUPABASE_ANON_KEY would be accepted as a user's token: copy the one called anon, public."
    )


def _claims(anon_key: str) -> dict[str, Any]:
    try:
        read_header(anon_key)
        return strict_json_object(unverified_payload(anon_key))
    except GateError:
        raise ConfigurationError(
            "SUPABASE_ANON_KEY is not a key: copy the one called anon, public, from your "
            "project's settings."
        ) from None


def _wrong_one(claims: dict[str, Any], supabase_url: str | None) -> str:
    """What to say if key and secret do not fit: a hosted project's key and URL name the project."""
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
