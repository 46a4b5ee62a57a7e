"""What is wrong with a token or key, or with the keys that verify tokens."""

from __future__ import annotations

from errors import GateError, RetryableError


class KeysUnavailable(RetryableError):
    """The keys to check a token with cannot be fetched."""

    reason = "keys_unavailable"


class UnknownKey(KeysUnavailable):
    """The key id of one token is not known. It may be made up, so it counts against the address."""


class TokenMissing(GateError):
    """The request has no token."""

    reason = "token_missing"


class TokenInvalid(GateError):
    """The token cannot be accepted."""

    reason = "token_invalid"


class TokenExpired(GateError):
    """The token was valid and has expired."""

    reason = "token_expired"


class TokenTooLarge(GateError):
    """`size` and `limit` in characters. The token was not verified and may be valid."""

    reason = "token_too_large"

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(
            f"The token has {size} characters, and at most {limit} are read. Remove claims from "
            "it: what app_metadata, user_metadata or the access token hook adds."
        )


class TokenForbidden(GateError):
    """Valid, but not the token of a user who is served."""

    reason = "token_forbidden"


class ServiceKeyMistyped(TokenInvalid):
    """The checksum of a service key is wrong."""

    reason = "service_key_mistyped"


class ServiceKeyUnknown(TokenInvalid):
    """A well-formed service key that is not configured."""

    reason = "service_key_unknown"


class ServiceKeyInBrowser(TokenForbidden):
    """Visitors of a page can read the key that it sends."""

    reason = "service_key_in_browser"

    def __init__(self) -> None:
        super().__init__(
            "A service key came with an Origin or Sec-Fetch-Site header, which browsers send. "
            "Visitors of the page could read it: replace the key, and send the access token of the "
            "signed-in user alone."
        )


class ServiceKeyInUrl(TokenForbidden):
    """A key in the query: logs keep URLs."""

    reason = "service_key_in_url"

    def __init__(self) -> None:
        super().__init__(
            "The URL holds a service key, and logs keep URLs. Replace the key, and send it as "
            "Authorization: Bearer <key>."
        )
