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


class ServiceKeyMistyped(TokenInvalid):
    reason = "service_key_mistyped"


class ServiceKeyUnknown(TokenInvalid):
    reason = "service_key_unknown"


class ServiceKeyInBrowser(TokenForbidden):
    """A page's visitors could read its key."""

    reason = "service_key_in_browser"

    def __init__(self) -> None:
        super().__init__(
            "A service key came with an Origin header, as browsers send. Whoever visits the page could "
            "read it: replace the key, and send the access token of the signed-in user."
        )


class ServiceKeyInUrl(TokenForbidden):
    """Logs keep URLs."""

    reason = "service_key_in_url"

    def __init__(self) -> None:
        super().__init__(
            "The URL holds a service key, and logs keep URLs. Replace the key, and send it as "
            "Authorization: Bearer <key>."
        )
