"""Refusals of the gate, before a body is parsed."""

from __future__ import annotations

from errors import GateError, RetryableError


class PathNotFound(GateError):
    """`meant`: the path that the caller probably meant, if one is similar."""

    reason = "path_not_found"

    def __init__(self, *, meant: str | None = None) -> None:
        hint = f"Call {meant} instead." if meant else "GET /docs lists what there is."
        super().__init__(f"There is nothing at this path. {hint}")
        self.meant = meant


class MethodNotAllowed(GateError):
    """`allowed`: the methods of this path, sorted, for the Allow header (RFC 9110 §10.2.1)."""

    reason = "method_not_allowed"

    def __init__(self, *, allowed: tuple[str, ...]) -> None:
        super().__init__(f"This path does not take this method. Use {' or '.join(allowed)}.")
        self.allowed = allowed


class BadHeader(GateError):
    """The headers contradict themselves or are not HTTP/1.1."""

    reason = "bad_header"


class UnsupportedMediaType(GateError):
    """The body is not application/json."""

    reason = "unsupported_media_type"


class BodyTooLarge(GateError):
    """`limit`: bytes."""

    reason = "body_too_large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes. Send fewer or shorter texts.")
        self.limit = limit


class HeadersTooLarge(GateError):
    """`limit`: bytes or lines, as `unit` says."""

    reason = "headers_too_large"

    def __init__(self, *, limit: int, unit: str = "bytes") -> None:
        super().__init__(
            f"The headers have more than {limit} {unit} together. Send fewer or shorter ones."
        )
        self.limit = limit


class UrlTooLong(GateError):
    """`limit`: bytes."""

    reason = "url_too_long"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The URL is longer than {limit} bytes. No path here needs a query.")
        self.limit = limit


class BodyTimeout(GateError):
    """The request did not arrive in time."""

    reason = "body_timeout"


class UserBlocked(GateError):
    """A valid token of a user that the operator refuses."""

    reason = "user_blocked"

    def __init__(self) -> None:
        super().__init__("This account is blocked here. Ask those who run the service.")


class TooManyFailures(RetryableError):
    """Too many bad tokens from one address."""

    reason = "too_many_failures"


class TooManyConcurrent(RetryableError):
    """Too many requests of one user in flight."""

    reason = "too_many_concurrent"
