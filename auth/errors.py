"""What is wrong with a token, or with the keys to check it with."""

from __future__ import annotations

from errors import GateError, RetryableError


class KeysUnavailable(RetryableError):
    reason = "keys_unavailable"


class UnknownKey(KeysUnavailable):
    """Of one token: others are checked. It may be made up, and counts against its address."""


class TokenMissing(GateError):
    reason = "token_missing"


class TokenInvalid(GateError):
    reason = "token_invalid"


class TokenExpired(GateError):
    reason = "token_expired"


class TokenTooLarge(GateError):
    """``size`` and ``limit``: characters. The token may be good: nobody has looked."""

    reason = "token_too_large"

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(
            f"The token has {size} characters, and at most {limit} are read. Remove claims from "
            "it: what app_metadata, user_metadata or the access token hook adds."
        )


class TokenForbidden(GateError):
    """Well signed, but not a signed-in user's token."""

    reason = "token_forbidden"
