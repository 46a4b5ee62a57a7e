"""Verifies Supabase access tokens: from the text of a token to its user."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jwt.algorithms import Algorithm as SignatureAlgorithm
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

from auth.claims import (
    AUDIENCE,
    ROLE,
    SIGN_IN,
    check_audience,
    check_not_an_api_key,
    check_role,
    check_times,
    read_subject,
    read_uuid,
)
from auth.errors import TokenExpired, TokenForbidden, TokenInvalid, TokenTooLarge
from auth.keys import ALGORITHMS, Algorithm, KeySet
from auth.principal import Principal
from auth.service_key_format import SUPABASE_PREFIX

MAX_TOKEN_BYTES = 8192
PUBLISHABLE_PREFIX = "sb_publishable_"  # of the public key of a project, in place of the anon key
MAX_KID_LENGTH = 256
MAX_ISSUERS = 8  # other issuers that the log names, each once

COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

#: PyJWT's algorithms without its PyJWS, which reads each byte of a token in Python and checks the
#: secret each time, as `auth.keys` does once: 10 instead of 300 us for the largest token.
_SIGNATURES: dict[Algorithm, SignatureAlgorithm] = {
    "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Header:
    """The two members of a token's header that are read."""

    algorithm: Algorithm
    kid: str | None


class TokenVerifier:
    """Verifies the tokens of one project.

    Args:
        keys: that sign its tokens.
        issuer: the exact iss claim; None accepts any, because the secret identifies the project.
        allow_anonymous: whether users who signed in anonymously are served.
        audience: that the aud claim must have.
        roles: of which the role claim must be one.
        subject: form of user ids: "uuid", or "any" for third-party auth.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        keys: KeySet,
        issuer: str | None,
        allow_anonymous: bool,
        audience: str = AUDIENCE,
        roles: Collection[str] = (ROLE,),
        subject: Literal["uuid", "any"] = "uuid",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._other_issuers: set[str] = set()
        self._allow_anonymous = allow_anonymous
        self._audience = audience
        self._roles = roles
        self._read_id = {"uuid": read_uuid, "any": read_subject}[subject]
        self._clock = clock

    async def verify(self, token: str) -> Principal:
        """The user of a token.

        Raises:
            TokenInvalid: it is malformed, or not of this project.
            TokenTooLarge: it is not read.
            TokenExpired: it was valid.
            TokenForbidden: it is valid, but its user is not served, or no user is.
            KeysUnavailable: there is no key to verify it with at the moment.
        """
        header = read_header(token)
        if self.keys.absent:
            raise TokenForbidden(
                "This service serves machines alone. Send a service key instead of a user's token.",
                reason="users_not_served",
            )
        if self.keys.lacks(header.algorithm, header.kid):
            self._check_before_asking(token)
        claims = await self.signed_claims(token, header)
        return self._principal(claims)

    async def signed_claims(self, token: str, header: Header) -> dict[str, Any]:
        """The claims of a token with a valid signature. Raises TokenInvalid, KeysUnavailable."""
        keys = await self.keys.find(header.algorithm, header.kid)
        if not keys:
            raise TokenInvalid(
                f"This service holds no {header.algorithm} key for the token. {_OTHER_PROJECT}"
            )
        signed, _, signature = token.rpartition(".")
        message, signed_by = signed.encode(), _base64url(signature)
        algorithm = _SIGNATURES[header.algorithm]
        if not any(algorithm.verify(message, key, signed_by) for key in keys):
            raise TokenInvalid(f"The token's signature does not match. {_OTHER_PROJECT}")
        return strict_json_object(unverified_payload(token))

    def _check_before_asking(self, token: str) -> None:
        """Refuse a token with bad claims before a key is fetched for it."""
        try:
            self._principal(strict_json_object(unverified_payload(token)), signed=False)
        except TokenExpired:
            raise TokenInvalid(
                f"The token has expired, and is signed with a key that is not known here. {SIGN_IN}"
            ) from None

    def _principal(self, claims: Mapping[str, Any], *, signed: bool = True) -> Principal:
        check_not_an_api_key(claims)
        self._check_issuer(claims, signed=signed)
        check_audience(claims, self._audience)
        check_times(claims, now=self._clock())
        user_id = self._read_id(claims, "sub")
        check_role(claims, self._roles)
        anonymous = claims.get("is_anonymous", False)
        if not isinstance(anonymous, bool):
            raise TokenInvalid(f"The claim is_anonymous is not a boolean. {SIGN_IN}")
        if anonymous and not self._allow_anonymous:
            raise TokenForbidden(
                "Anonymous users are not served here. Sign in with an account.",
                reason="anonymous_user",
            )
        session_id = self._read_id(claims, "session_id") if claims.get("session_id") else None
        return Principal(
            user_id=user_id,
            session_id=session_id,
            is_anonymous=anonymous,
            expires=claims["exp"],
        )

    def _check_issuer(self, claims: Mapping[str, Any], *, signed: bool) -> None:
        issuer = claims.get("iss")
        if self._issuer is None or issuer == self._issuer:
            return
        if signed:
            self._log_issuer(str(issuer)[:200])
        raise TokenInvalid(
            "The token was issued by another project, or by the same one under another URL. "
            "Sign in to the project that is served here; the service's log names both issuers."
        )

    def _log_issuer(self, issuer: str) -> None:
        """Log the issuer of a token with a valid signature: SUPABASE_URL is probably wrong."""
        if issuer not in self._other_issuers and len(self._other_issuers) < MAX_ISSUERS:
            self._other_issuers.add(issuer)
            log.warning(
                "issuer_mismatch: if both are your project, set SUPABASE_JWT_ISSUER to the token's",
                extra={"fields": {"token_issuer": issuer, "required_issuer": self._issuer}},
            )


_OTHER_PROJECT = "It may belong to another project, or the key was replaced: sign in again."


def read_header(token: str) -> Header:
    """The header of a compact JWS (RFC 7515 §7.1); nothing is verified.

    Raises:
        TokenInvalid: it is not a token, or its algorithm is not accepted.
        TokenTooLarge: it has more than MAX_TOKEN_BYTES.
        TokenForbidden: it is an API key of a project.
    """
    if token.startswith(SUPABASE_PREFIX):
        raise TokenForbidden(
            "This is a secret key of a project, and not listed here. Send the access token of a "
            "signed-in user, or let SERVICE_KEYS of the service list the key's SHA-256.",
            reason="api_key",
        )
    if token.startswith(PUBLISHABLE_PREFIX):
        raise TokenForbidden(
            "This is a project API key. Send the access token of a signed-in user.",
            reason="api_key",
        )
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenTooLarge(size=len(token), limit=MAX_TOKEN_BYTES)
    if not COMPACT_JWS.fullmatch(token):
        raise TokenInvalid(
            "This is not a JSON Web Token: three parts in base64url, joined by dots. "
            "Send the session's access_token, whole and without quotes."
        )
    header = strict_json_object(_base64url(token.split(".", 1)[0]))
    if header.keys() & {
        "crit",
        "b64",
    }:  # extensions that must be understood (RFC 7515 §4.1.11)
        raise TokenInvalid(f"The token uses header extensions that are not supported. {SIGN_IN}")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenInvalid(f"The token is not signed with HS256, ES256 or RS256. {SIGN_IN}")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_LENGTH):
        raise TokenInvalid(f"The token's key id is not a short text. {SIGN_IN}")
    return Header(algorithm, kid)


def unverified_payload(token: str) -> bytes:
    """The payload of a token that `read_header` accepted. Nothing of it is verified."""
    return _base64url(token.split(".")[1])


def strict_json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 without duplicate members (RFC 7519 §4). Raises TokenInvalid."""
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise TokenInvalid(f"The token does not hold plain JSON. {SIGN_IN}") from None
    if not isinstance(value, dict):
        raise TokenInvalid(f"The token does not hold a JSON object. {SIGN_IN}")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _base64url(text: str) -> bytes:
    """Decode strictly (RFC 4648 §3.5): a token has only one spelling. Raises TokenInvalid."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise TokenInvalid(f"The token is not base64url. {SIGN_IN}")
    return data
