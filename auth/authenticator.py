"""From what a caller presents, a user's token or a service key, to who it is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from auth.errors import ServiceKeyMistyped, ServiceKeyUnknown, TokenMissing
from auth.principal import Principal
from auth.service_key_format import PREFIX, is_intact, is_service_key
from auth.service_keys import ServiceKeys
from auth.tokens import TokenVerifier

REMEMBERED = 30.0  # seconds; a signing key that is withdrawn counts this much longer
MAX_REMEMBERED = 4096  # tokens


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller presents, and its SHA-256. The text is empty where it presents nothing."""

    text: str
    digest: bytes

    @classmethod
    def of(cls, text: str) -> Credential:
        """Tell what kind of credential a text is."""
        return cls(text, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())

    @property
    def is_service_key(self) -> bool:
        """Whether it has the form of a service key; nothing is said of whose it is."""
        return is_service_key(self.text)


class Authenticator:
    """Tokens of signed-in users, and service keys. Remembers tokens that were verified.

    Args:
        clock: seconds since 1970.
    """

    def __init__(
        self,
        tokens: TokenVerifier,
        service_keys: ServiceKeys,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._service_keys = service_keys
        self._clock = clock
        self._verified: dict[bytes, tuple[Principal, float]] = {}  # digest -> until when

    def recall(self, credential: Credential) -> Principal | None:
        """Who it is, if that costs no verification.

        That is the holder of a service key, and the user of a token that was verified less than
        REMEMBERED seconds ago and has not expired.
        """
        if credential.is_service_key:
            return self._service_keys.find(credential.digest)
        principal, until = self._verified.get(credential.digest, (None, 0.0))
        if principal is not None and self._clock() >= until:
            del self._verified[credential.digest]
            return None
        return principal

    async def verify(self, credential: Credential) -> Principal:
        """Who it is that `recall` does not know.

        Raises:
            TokenMissing: nothing was presented.
            ServiceKeyMistyped, ServiceKeyUnknown: it is no key of this service.
            TokenInvalid, TokenTooLarge, TokenExpired, TokenForbidden, KeysUnavailable: as
                TokenVerifier.verify.
        """
        if not credential.text:
            raise TokenMissing(
                "Send the header Authorization: Bearer <access token of a signed-in user, or "
                "service key>."
            )
        if credential.text.startswith(PREFIX):
            raise _refusal(credential.text)
        principal = await self._tokens.verify(credential.text)
        until = min(principal.expires, self._clock() + REMEMBERED)
        self._verified[credential.digest] = (principal, until)
        if len(self._verified) > MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        return principal


def _refusal(key: str) -> ServiceKeyMistyped | ServiceKeyUnknown:
    if not is_intact(key):
        return ServiceKeyMistyped(
            "This service key is mistyped: its checksum is wrong. Copy it again, all of it."
        )
    return ServiceKeyUnknown(
        "This service key is not known here, or was revoked. Ask those who run the service."
    )
