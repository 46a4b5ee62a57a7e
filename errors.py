"""Base types of refusals and of wrong settings, from which each folder derives its own.

Each refusal has a message that says what to do, and a `reason` from a fixed set for metrics and
log: never anything that the caller sent. Status numbers are in `api/errors.py`.
"""

from __future__ import annotations

import math


class ConfigurationError(Exception):
    """A setting cannot be used. One line that names the variable and what to do."""


class GateError(Exception):
    """A request that is refused."""

    reason = "refused"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class RetryableError(GateError):
    """May succeed if repeated after `retry_after` whole seconds."""

    def __init__(self, message: str, *, retry_after: int, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class Overloaded(RetryableError):
    """The service has too much work, or is stopping."""

    reason = "overloaded"


def whole_seconds(seconds: float) -> int:
    """Rounded up, at least 1: Retry-After is an integer (RFC 9110 §10.2.3), and 0 is no wait."""
    return max(1, math.ceil(seconds))
