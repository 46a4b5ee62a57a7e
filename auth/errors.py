"""What the gate refuses, as types. Status numbers belong to the HTTP edge, not here.

Each type carries a message that says what to do and a ``reason`` from a fixed set, fit for a metric
label and a log line: never a word of the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from auth.receipt import Receipt


class ConfigurationError(Exception):
    """A setting cannot be used. One line that names the variable and what to do."""


class GateError(Exception):
    """A request that goes no further."""

    reason = "refused"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class PathNotFound(GateError):
    """``meant``: the path here that the asked one is a misspelling of, if there is one."""

    reason = "path_not_found"

    def __init__(self, *, meant: str | None = None) -> None:
        hint = f"Call {meant} instead." if meant else "GET /docs lists what there is."
        super().__init__(f"There is nothing at this path. {hint}")
        self.meant = meant


class MethodNotAllowed(GateError):
    """``allowed``: the methods of this path, sorted, for the Allow header (RFC 9110 §10.2.1)."""

    reason = "method_not_allowed"

    def __init__(self, *, allowed: tuple[str, ...]) -> None:
        super().__init__(f"This path does not take this method. Use {' or '.join(allowed)}.")
        self.allowed = allowed


class BadHeader(GateError):
    reason = "bad_header"


class UnsupportedMediaType(GateError):
    reason = "unsupported_media_type"


class BodyTooLarge(GateError):
    """``limit``: bytes."""

    reason = "body_too_large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes. Send fewer or shorter texts.")
        self.limit = limit


class HeadersTooLarge(GateError):
    """``limit``: bytes or lines, as ``unit`` says."""

    reason = "headers_too_large"

    def __init__(self, *, limit: int, unit: str = "bytes") -> None:
        super().__init__(
            f"The headers have more than {limit} {unit} together. Send fewer or shorter ones."
        )
        self.limit = limit


class UrlTooLong(GateError):
    """``limit``: bytes."""

    reason = "url_too_long"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The URL is longer than {limit} bytes. No path here needs a query.")
        self.limit = limit


class BodyTimeout(GateError):
    reason = "body_timeout"


class RetryableError(GateError):
    """Worth another try after ``retry_after`` whole seconds."""

    def __init__(self, message: str, *, retry_after: int, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class Overloaded(RetryableError):
    reason = "overloaded"


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


class UserBlocked(GateError):
    """A good token of a user whom the operator refuses."""

    reason = "user_blocked"

    def __init__(self) -> None:
        super().__init__("This account is blocked here. Ask those who run the service.")


class TooManyFailures(RetryableError):
    reason = "too_many_failures"


class TooManyConcurrent(RetryableError):
    reason = "too_many_concurrent"


class QuotaExceeded(RetryableError):
    """``which`` limit was reached; ``receipt`` is the caller's standing, for the headers."""

    def __init__(
        self, *, which: Literal["requests", "tokens"], retry_after: int, receipt: Receipt
    ) -> None:
        super().__init__(
            _exceeded(which, retry_after, receipt), retry_after=retry_after, reason=f"quota_{which}"
        )
        self.which = which
        self.receipt = receipt


class QuotaUnavailable(RetryableError):
    reason = "quota_unavailable"


def _exceeded(which: str, retry_after: int, receipt: Receipt) -> str:
    if which == "requests":
        limit = f"{receipt.limit} requests in {receipt.window:g} seconds"
        return f"The limit is {limit}. Try again in {retry_after} seconds."
    left = f"{receipt.tokens_limit} tokens a day, of which {receipt.tokens_remaining} are left"
    return f"The limit is {left}. Send less text, or try again in {retry_after} seconds."
