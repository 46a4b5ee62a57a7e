"""Supabase access tokens: from the text of a token to the user it speaks for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.api_jws import PyJWS

from auth.errors import TokenExpired, TokenForbidden, TokenInvalid, TokenTooLarge
from auth.keys import ALGORITHMS, Algorithm, KeySet

MAX_TOKEN_BYTES = 8192
MAX_KID_LENGTH = 256
SKEW = 60.0  # seconds that nbf and iat may lie ahead of our clock; exp is not extended
REMEMBERED = 30.0  # seconds; a key that is withdrawn counts this much longer
MAX_REMEMBERED = 4096  # tokens
MAX_TIME = 1e12  # seconds; a number, and one that can be compared
AUDIENCE = "authenticated"
ROLE = "authenticated"

COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

_JWS = PyJWS(algorithms=ALGORITHMS, options={"verify_signature": True, "enforce_minimum_key_length": True})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. ``user_id`` and ``session_id`` are UUIDs in lower case."""

    user_id: str
    session_id: str | None
    is_anonymous: bool


@dataclass(frozen=True, slots=True)
class Header:
    """The two header members that are read: which algorithm, and which of its keys."""

    algorithm: Algorithm
    kid: str | None


class TokenVerifier:
    """Verifies tokens of one project.

    ``issuer``: the exact iss claim, or None to accept any (the secret alone identifies the project).
    ``clock``: seconds since 1970.
    """

    def __init__(
        self,
        *,
        keys: KeySet,
        issuer: str | None,
        allow_anonymous: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._allow_anonymous = allow_anonymous
        self._clock = clock
        self._verified: dict[bytes, tuple[Principal, float]] = {}  # token's hash -> user, until when

    async def verify(self, token: str) -> Principal:
        """Raises TokenInvalid, TokenTooLarge, TokenExpired, TokenForbidden, KeysUnavailable."""
        if known := self.recall(token):
            return known
        claims = await self.signed_claims(token, read_header(token))
        principal = self._principal(claims)
        self._verified[_digest(token)] = (principal, min(claims["exp"], self._clock() + REMEMBERED))
        if len(self._verified) > MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        return principal

    def recall(self, token: str) -> Principal | None:
        """The user of a token that was verified less than REMEMBERED seconds ago and has not expired."""
        digest = _digest(token)
        principal, until = self._verified.get(digest, (None, 0.0))
        if principal is not None and self._clock() >= until:
            del self._verified[digest]
            return None
        return principal

    async def signed_claims(self, token: str, header: Header) -> dict[str, Any]:
        """The claims of a token whose signature holds. Raises TokenInvalid, KeysUnavailable."""
        keys = await self.keys.find(header.algorithm, header.kid)
        if not keys:
            raise TokenInvalid(f"This service holds no {header.algorithm} key for the token. {_OTHER_PROJECT}")
        for key in keys:
            try:
                payload = _JWS.decode(token, key, algorithms=[header.algorithm])
            except jwt.PyJWTError:
                continue
            return strict_json_object(payload)
        raise TokenInvalid(f"The token's signature does not match. {_OTHER_PROJECT}")

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        check_not_an_api_key(claims)
        check_issuer(claims, self._issuer)
        check_audience(claims)
        check_times(claims, now=self._clock())
        user_id = read_uuid(claims, "sub")
        if claims.get("role") != ROLE:
            raise TokenForbidden("The token's role is not authenticated.", reason="role")
        anonymous = claims.get("is_anonymous", False)
        if not isinstance(anonymous, bool):
            raise TokenInvalid("The claim is_anonymous is not a boolean.")
        if anonymous and not self._allow_anonymous:
            raise TokenForbidden("Anonymous users are not served here. Sign in.", reason="anonymous_user")
        session_id = read_uuid(claims, "session_id") if claims.get("session_id") else None
        return Principal(user_id=user_id, session_id=session_id, is_anonymous=anonymous)


_OTHER_PROJECT = "It may belong to another project, or the key was replaced: sign in again."


def read_header(token: str) -> Header:
    """The header of a compact JWS (RFC 7515 §7.1), nothing verified.

    Raises TokenInvalid, TokenTooLarge, TokenForbidden (a new project API key).
    """
    if token.startswith(("sb_publishable_", "sb_secret_")):
        raise TokenForbidden("This is a project API key. Send the access token of a signed-in user.", reason="api_key")
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenTooLarge(size=len(token), limit=MAX_TOKEN_BYTES)
    if not COMPACT_JWS.fullmatch(token):
        raise TokenInvalid("This is not a JSON Web Token: three parts in base64url, joined by dots.")
    header = strict_json_object(_base64url(token.split(".", 1)[0]))
    if header.keys() & {"crit", "b64"}:  # extensions that we would have to understand (RFC 7515 §4.1.11)
        raise TokenInvalid("The token uses header extensions that are not supported.")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenInvalid("The token is not signed with HS256, ES256 or RS256.")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_LENGTH):
        raise TokenInvalid("The token's key id is not a short text.")
    return Header(algorithm, kid)


def unverified_payload(token: str) -> bytes:
    """The middle part of a token that ``read_header`` accepted: anybody may have written it."""
    return _base64url(token.split(".")[1])


def check_not_an_api_key(claims: Mapping[str, Any]) -> None:
    """The anon and service_role keys of a project are well signed tokens that name no user."""
    role = claims.get("role")
    if role in ("anon", "service_role", "supabase_admin"):
        raise TokenForbidden("This is a project API key. Send the access token of a signed-in user.", reason="api_key")


def check_issuer(claims: Mapping[str, Any], issuer: str | None) -> None:
    if issuer is not None and claims.get("iss") != issuer:
        raise TokenInvalid("The token was issued by another project.")


def check_audience(claims: Mapping[str, Any]) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(a, str) for a in audiences):
        raise TokenInvalid("The token names no audience.")
    if AUDIENCE in audiences:
        return
    if "role" not in claims:
        raise TokenInvalid("This looks like an ID token (OpenID Connect). Send the access token.")
    raise TokenInvalid("The token's audience is not authenticated.")


def check_times(claims: Mapping[str, Any], *, now: float) -> None:
    """exp must lie ahead, nbf and iat must not (RFC 7519 §4.1.4-6). ``now``: seconds since 1970."""
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    for value in times.values():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
            raise TokenInvalid("A time in the token is not a number.")
    if "exp" not in times:
        raise TokenInvalid("The token has no expiry.")
    if max(times.get("nbf", now), times.get("iat", now)) > now + SKEW:
        raise TokenInvalid("The token is not valid yet: compare the clocks of both machines.")
    if times["exp"] <= now:
        raise TokenExpired("The token has expired. Refresh the session and send the new token.")


def read_uuid(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not UUID.fullmatch(value):
        raise TokenInvalid(f"The claim {name} is not a UUID.")
    return value.lower()


def strict_json_object(data: bytes) -> dict[str, Any]:
    """One JSON object in UTF-8 in which no member occurs twice (RFC 7519 §4). Raises TokenInvalid."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise TokenInvalid("The token does not hold plain JSON.") from None
    if not isinstance(value, dict):
        raise TokenInvalid("The token does not hold a JSON object.")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise TokenInvalid("The token is not base64url.") from None
