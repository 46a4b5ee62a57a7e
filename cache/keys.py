"""The names under which vectors are kept."""

import hmac
from collections.abc import Sequence
from typing import Literal

from embedder.tokenized_text import TokenIds

Scope = Literal["user", "all"]
KEY_BYTES = 16  # two texts of 2^48 share a key with a probability of 2^-33


class Keys:
    """HMAC-SHA256 of what the model reads, so that a key says nothing without the secret.

    Args:
        secret: 32 bytes or more.
        scope: `user`: each user finds only their own texts. `all`: everybody finds everybody's.
    """

    def __init__(self, secret: bytes, *, scope: Scope) -> None:
        self._secret = secret
        self._scope = scope

    def of(self, token_ids: Sequence[TokenIds], *, user: str) -> list[bytes]:
        """One key for each text, prompt and special tokens included."""
        whose = f"user {user}" if self._scope == "user" else "all"
        secret = hmac.digest(self._secret, whose.encode(), "sha256")
        return [
            hmac.digest(secret, ids.astype("<i4", copy=False).tobytes(), "sha256")[:KEY_BYTES]
            for ids in token_ids
        ]

    def owner(self, user: str) -> str:
        """A pseudonym of a user, in hex."""
        return hmac.digest(self._secret, f"owner {user}".encode(), "sha256")[:KEY_BYTES].hex()

    def seal(self, key: bytes, value: bytes) -> bytes:
        """`value` behind a code that only the secret can make."""
        return self._code(key, value) + value

    def unseal(self, key: bytes, sealed: bytes) -> bytes | None:
        """What `seal` was given; None if anything else made it, or it belongs to another key."""
        code, value = sealed[:KEY_BYTES], sealed[KEY_BYTES:]
        return value if hmac.compare_digest(code, self._code(key, value)) else None

    def _code(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(self._secret, b"value " + key + value, "sha256")[:KEY_BYTES]
