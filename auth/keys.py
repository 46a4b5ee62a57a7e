"""The keys that sign a project's tokens: its shared secret, its published key set, or both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

from errors import ConfigurationError

Algorithm = Literal["HS256", "ES256", "RS256"]
ALGORITHMS: tuple[Algorithm, ...] = ("HS256", "ES256", "RS256")

MIN_SECRET_BYTES = 32  # as long as the hash (RFC 7518 §3.2)
MAX_KEYS = 32  # in one key set; Supabase publishes two or three
MIN_RSA_BITS = 2048  # RFC 7518 §3.3

#: Published in Supabase's CLI and self-hosting guide, and in this project's documents.
EXAMPLE_SECRETS = frozenset(
    {
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "your-super-secret-jwt-token-with-at-least-32-characters",
        "your_supabase_jwt_secret",
    }
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of a key set, bound to its one algorithm."""

    kid: str | None
    algorithm: Algorithm
    key: EllipticCurvePublicKey | RSAPublicKey


class KeySource(Protocol):
    """A source of public keys."""

    def lacks(self, algorithm: str, kid: str | None) -> bool:
        """Whether there are keys, but not this one, so that `find` would have to fetch."""

    async def find(self, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
        """The keys that may have signed such a token.

        Raises KeysUnavailable (UnknownKey: this key alone), TokenInvalid (there is no such key).
        """

    async def start(self) -> bool:
        """Fetch the keys. Returns whether they are present."""

    @property
    def empty(self) -> bool:
        """Whether the key set is present and has no key."""

    async def aclose(self) -> None: ...


class InlineKeys:
    """A key set from the settings, for machines that cannot reach the key server."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = tuple(keys)

    def lacks(self, algorithm: str, kid: str | None) -> bool:
        return False

    async def find(self, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
        return matching(self._keys, algorithm, kid)

    async def start(self) -> bool:
        return True

    @property
    def empty(self) -> bool:
        return not self._keys

    async def aclose(self) -> None:
        """Nothing is open."""


class KeySet:
    """Every accepted key by algorithm: the secret for HS256, the key set for the others."""

    def __init__(self, *, secret: str | None = None, public: KeySource | None = None) -> None:
        self.secret = secret
        self.public = public

    def lacks(self, algorithm: Algorithm, kid: str | None) -> bool:
        """Whether `find` would have to fetch a key set for this key."""
        if algorithm == "HS256" or self.public is None:
            return False
        return self.public.lacks(algorithm, kid)

    async def find(
        self, algorithm: Algorithm, kid: str | None
    ) -> Sequence[bytes | EllipticCurvePublicKey | RSAPublicKey]:
        """The keys to try.

        Raises:
            KeysUnavailable, UnknownKey, TokenInvalid: as KeySource.find.
        """
        if algorithm == "HS256":
            key = (self.secret or "").encode()
            return [key] if len(key) >= MIN_SECRET_BYTES else []
        if self.public is None:
            return []
        return [key.key for key in await self.public.find(algorithm, kid)]

    async def start(self) -> bool:
        return True if self.public is None else await self.public.start()

    @property
    def absent(self) -> bool:
        """Whether there is neither a secret nor a key set, since users are not served."""
        return self.secret is None and self.public is None

    @property
    def empty(self) -> bool:
        """Whether the key set has no key, and nothing else is there: every token is refused."""
        return self.secret is None and self.public is not None and self.public.empty

    async def aclose(self) -> None:
        if self.public is not None:
            await self.public.aclose()


def matching(keys: Iterable[PublicKey], algorithm: str, kid: str | None) -> list[PublicKey]:
    """The keys of `algorithm` with the id `kid`; all of them if it is None."""
    return [key for key in keys if key.algorithm == algorithm and (kid is None or key.kid == kid)]


def parse_jwks(document: str | bytes) -> tuple[PublicKey, ...]:
    """The keys of a JWK Set (RFC 7517 §5) that can verify ES256 or RS256; others are skipped.

    Symmetric keys are skipped too: a secret never comes from a key set.

    Raises:
        ValueError: the document is not a JWK Set.
    """
    try:
        content = json.loads(document)
    except RecursionError as error:
        raise ValueError("the key set is nested too deeply") from error
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(keys, list):
        raise ValueError('a key set is a JSON object with a list named "keys"')
    parsed = (_public_key(jwk) for jwk in keys[:MAX_KEYS] if isinstance(jwk, dict))
    return tuple(key for key in parsed if key is not None)


_PUBLIC_MEMBERS: Mapping[
    str, tuple[Algorithm, type[ECAlgorithm] | type[RSAAlgorithm], tuple[str, ...]]
] = {
    "EC": ("ES256", ECAlgorithm, ("kty", "crv", "x", "y")),
    "RSA": ("RS256", RSAAlgorithm, ("kty", "n", "e")),
}


def _public_key(jwk: Mapping[str, Any]) -> PublicKey | None:
    kind = jwk.get("kty")
    if not isinstance(kind, str) or kind not in _PUBLIC_MEMBERS:
        return None
    algorithm, loader, members = _PUBLIC_MEMBERS[kind]
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm:
        return None
    if not isinstance(operations, list) or not {"verify", "sign"} & {str(o) for o in operations}:
        return None
    try:  # only the public members: a private key is never read
        key = loader.from_jwk({name: jwk[name] for name in members})
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, AttributeError):
        return None
    kid = jwk.get("kid")
    if not _strong_enough(key) or not (kid is None or isinstance(kid, str)):
        return None
    return PublicKey(kid, algorithm, cast(EllipticCurvePublicKey | RSAPublicKey, key))


def _strong_enough(key: object) -> bool:
    if isinstance(key, EllipticCurvePublicKey):
        return key.curve.name == "secp256r1"  # P-256, the curve of ES256 (RFC 7518 §3.4)
    return isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS


def check_secret(secret: str, *, debug: bool) -> None:
    """Refuse a secret that is short, published or not a secret. Raises ConfigurationError."""
    if secret != secret.strip():
        raise ConfigurationError("SUPABASE_JWT_SECRET begins or ends with white space: remove it.")
    if not debug and secret in EXAMPLE_SECRETS:
        raise ConfigurationError(
            "SUPABASE_JWT_SECRET is a published example: set your project's own secret, or "
            "DEBUG=true on a machine that nobody else can reach."
        )
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"SUPABASE_JWT_SECRET is {len(secret.encode())} bytes long and must have at least "
            f"{MIN_SECRET_BYTES}: copy the whole JWT secret from your project's settings."
        )
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.PyJWTError as error:
        raise ConfigurationError(
            "SUPABASE_JWT_SECRET holds a public key: set the JWT secret there, and keys in "
            "SUPABASE_JWKS."
        ) from error


def check_jwks(document: str) -> tuple[PublicKey, ...]:
    """The keys of SUPABASE_JWKS. Raises ConfigurationError."""
    try:
        keys = parse_jwks(document)
    except ValueError as error:
        raise ConfigurationError(
            "SUPABASE_JWKS is not a key set: set the JSON of …/auth/v1/.well-known/jwks.json, "
            'which looks like {"keys": […]}.'
        ) from error
    if not keys:
        raise ConfigurationError(
            "SUPABASE_JWKS holds no ES256 (P-256) or RS256 (2048 bits) key: copy the key set "
            "again, or set SUPABASE_JWT_SECRET if the project signs with its secret."
        )
    return keys
