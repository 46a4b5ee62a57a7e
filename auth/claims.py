"""Checks of the claims of a token, once its signature is verified."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from auth.errors import TokenExpired, TokenForbidden, TokenInvalid
from auth.principal import SERVICE
from errors import ConfigurationError

SKEW = 60.0  # seconds that nbf and iat may be ahead of our clock; exp is not extended
MAX_TIME = 1e12  # seconds; larger numbers are not times
AUDIENCE = "authenticated"
ROLE = "authenticated"
SIGN_IN = "Sign in again, and send the access token as it comes."
API_KEY_ROLES = frozenset({"anon", "service_role", "supabase_admin"})

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
SUBJECT = re.compile(
    r"[!-z|~]{1,255}", re.ASCII
)  # OpenID Connect Core §2; braces are Redis Cluster's


def check_not_an_api_key(claims: Mapping[str, Any]) -> None:
    """Refuse the anon and service_role keys, valid tokens without a user. Raises TokenForbidden."""
    role = claims.get("role")
    if isinstance(role, str) and role in API_KEY_ROLES:
        raise TokenForbidden(
            "This is a project API key. Send the access token of a signed-in user.",
            reason="api_key",
        )


def check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """Raises TokenInvalid for a token of another audience."""
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not all(isinstance(a, str) for a in audiences):
        raise TokenInvalid(f"The token names no audience. Send one whose aud is {audience}.")
    if audience in audiences:
        return
    if "role" not in claims:
        raise TokenInvalid("This looks like an ID token (OpenID Connect). Send the access token.")
    raise TokenInvalid(f"The token is for another audience. Send one whose aud is {audience}.")


def check_role(claims: Mapping[str, Any], roles: Collection[str]) -> None:
    """Raises TokenForbidden for a role that is not served."""
    role = claims.get("role")
    if not isinstance(role, str) or role not in roles:
        allowed = ", ".join(sorted(roles))
        message = (
            f"Users of the token's role are not served here. Send a token whose role is {allowed}."
        )
        raise TokenForbidden(message, reason="role")


def parse_roles(text: str) -> frozenset[str]:
    """The names in ALLOWED_ROLES, which commas separate. Raises ConfigurationError."""
    roles = frozenset(role.strip() for role in text.split(",") if role.strip())
    if not roles or roles & API_KEY_ROLES:
        raise ConfigurationError(
            "ALLOWED_ROLES takes the roles of signed-in users, separated by commas, such as "
            "authenticated,editor, but none of an API key: " + ", ".join(sorted(API_KEY_ROLES))
        )
    return roles


def check_times(claims: Mapping[str, Any], *, now: float) -> None:
    """Check that exp is in the future, and nbf and iat are not (RFC 7519 §4.1.4-6).

    Args:
        claims: of the token.
        now: seconds since 1970.

    Raises:
        TokenExpired: exp has passed.
        TokenInvalid: a time is missing, not a number or in the future.
    """
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    for value in times.values():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < MAX_TIME
        ):
            raise TokenInvalid(f"A time in the token is not a number. {SIGN_IN}")
    if "exp" not in times:
        raise TokenInvalid(f"The token has no expiry. {SIGN_IN}")
    if max(times.get("nbf", now), times.get("iat", now)) > now + SKEW:
        raise TokenInvalid("The token is not valid yet: compare the clocks of both machines.")
    if times["exp"] <= now:
        raise TokenExpired("The token has expired. Refresh the session and send the new token.")


def read_uuid(claims: Mapping[str, Any], name: str) -> str:
    """The claim as a canonical UUID. Raises TokenInvalid."""
    value = claims.get(name)
    if not isinstance(value, str) or not UUID.fullmatch(value):
        raise TokenInvalid(
            f"The token's claim {name} is not a UUID, as Supabase Auth writes it. "
            "Sign in with Supabase Auth; SUBJECT=any accepts users of third-party auth."
        )
    return value.lower()


def read_subject(claims: Mapping[str, Any], name: str) -> str:
    """The claim as a user id of any form. Raises TokenInvalid."""
    value = claims.get(name)
    if not isinstance(value, str) or not SUBJECT.fullmatch(value):
        raise TokenInvalid(
            f"The token's claim {name} is not a name of 1 to 255 visible ASCII characters. "
            "Let the provider put the user's id there."
        )
    if value.startswith(SERVICE):
        raise TokenInvalid(f"No user's id begins with {SERVICE}, which is for service keys.")
    return value
