"""What a user may use, what is left of it, and the headers that say so."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from errors import whole_seconds
from quota.errors import QuotaExceeded

MICROSECONDS = 1_000_000
WINDOW = 60.0  # seconds, of every limit of requests that the settings state
DAY = 86_400 * MICROSECONDS  # µs; days begin at midnight UTC

Headers = list[tuple[bytes, bytes]]
_NAMES = frozenset(
    {
        b"ratelimit-policy",
        b"ratelimit",
        b"x-ratelimit-limit",
        b"x-ratelimit-remaining",
        b"x-ratelimit-reset",
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """``requests`` in any rolling ``window`` (seconds), and ``tokens_per_day`` (UTC); None: no limit."""

    requests: int | None
    window: float
    tokens_per_day: int | None

    @property
    def window_us(self) -> int:
        return round(self.window * MICROSECONDS)


OwnLimits = Callable[[str], Limits | None]  # user id -> its limits where they are not all users'


def no_own_limits(_: str) -> None:
    """The same limits for everybody."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One user's counters, as a store reports them. Times are µs of the store's clock."""

    refused: Literal["", "requests", "tokens"]
    requests: int  # in the window that ends now
    free_after: int  # µs until the next slot frees, 0 while the log is empty
    tokens: int  # used today
    now: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of the day that a request was charged. ``at``: µs of the store's clock, 0 where no store counts."""

    tokens: int = 0
    at: int = 0
    shared: bool = False  # in the shared store too, not in this process alone


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user's limits after a charge, None for none. The last five fields are what a refund needs."""

    limit: int | None
    remaining: int | None
    reset_after: float  # seconds until the oldest request leaves the window
    window: float  # seconds
    tokens_limit: int | None
    tokens_remaining: int | None
    tokens_reset_after: float | None  # seconds until midnight UTC
    user_id: str
    request_id: str = ""  # "" : no request was charged, there is none to give back
    charged_at: int = 0  # µs of the store's clock
    shared: bool = False  # charged in the shared store too, not in this process alone
    spent: Spent = Spent()


def receipt_of(
    standing: Standing,
    limits: Limits,
    *,
    user_id: str,
    request_id: str = "",
    shared: bool = False,
) -> Receipt:
    """The receipt for ``standing``."""
    daily = limits.tokens_per_day
    return Receipt(
        limit=limits.requests,
        remaining=_left(limits.requests, standing.requests),
        reset_after=standing.free_after / MICROSECONDS,
        window=limits.window,
        tokens_limit=daily,
        tokens_remaining=_left(daily, standing.tokens),
        tokens_reset_after=None if daily is None else until_midnight(standing.now) / MICROSECONDS,
        user_id=user_id,
        request_id=request_id,
        charged_at=standing.now,
        shared=shared,
    )


def spent_of(
    standing: Standing, limits: Limits, *, receipt: Receipt, tokens: int, shared: bool = False
) -> Receipt:
    """``receipt`` once ``tokens`` are spent too, with what is left according to ``standing``."""
    left = receipt_of(standing, limits, user_id=receipt.user_id)
    return replace(
        left,
        request_id=receipt.request_id,
        charged_at=receipt.charged_at,
        shared=receipt.shared,
        spent=Spent(tokens, standing.now, shared),
    )


def tokens_alone(receipt: Receipt) -> Receipt:
    """What to refund of ``receipt`` where its request stays charged."""
    return replace(receipt, request_id="", shared=False)


def refusal_of(standing: Standing, limits: Limits, *, user_id: str) -> QuotaExceeded:
    """The error for a refused ``standing``; whoever waits ``retry_after`` seconds gets through."""
    which: Literal["requests", "tokens"] = "tokens" if standing.refused == "tokens" else "requests"
    wait = standing.free_after if which == "requests" else until_midnight(standing.now)
    receipt = receipt_of(standing, limits, user_id=user_id)
    return QuotaExceeded(
        which=which, retry_after=whole_seconds(wait / MICROSECONDS), receipt=receipt
    )


def until_midnight(now: int) -> int:
    """µs from ``now`` to the next midnight UTC."""
    return DAY - now % DAY


def new_request_id() -> str:
    """Unique over every process that shares a store."""
    return os.urandom(9).hex()


def policy_headers(limits: Limits) -> Headers:
    """RateLimit-Policy, for answers to callers of whom nothing is counted (yet)."""
    policies = []
    if limits.requests is not None:
        policies.append(f'"requests";q={limits.requests};w={math.ceil(limits.window)}')
    if limits.tokens_per_day is not None:
        policies.append(f'"tokens";q={limits.tokens_per_day};w=86400')
    return [(b"ratelimit-policy", ", ".join(policies).encode())] if policies else []


def quota_headers(receipt: Receipt) -> Headers:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), and the older X- names.

    ``t`` and X-RateLimit-Reset are seconds from now, not a date. A limit that there is not is in none.
    """
    reset = math.ceil(receipt.reset_after)
    left = []
    older: Headers = []
    if receipt.limit is not None:
        left.append(f'"requests";r={receipt.remaining};t={reset}')
        older = [
            (b"x-ratelimit-limit", b"%d" % receipt.limit),
            (b"x-ratelimit-remaining", b"%d" % (receipt.remaining or 0)),
            (b"x-ratelimit-reset", b"%d" % reset),
        ]
    if receipt.tokens_limit is not None:
        tokens_reset = math.ceil(receipt.tokens_reset_after or 0)
        left.append(f'"tokens";r={receipt.tokens_remaining};t={tokens_reset}')
    policy = policy_headers(Limits(receipt.limit, receipt.window, receipt.tokens_limit))
    return [*policy, (b"ratelimit", ", ".join(left).encode()), *older] if left else []


def set_quota_headers(headers: Headers, receipt: Receipt) -> None:
    """Puts the headers of ``receipt`` in place of those of an earlier one."""
    _replace(headers, quota_headers(receipt))


def set_policy(headers: Headers, limits: Limits) -> None:
    """Puts ``limits`` alone in place of what was said of others."""
    _replace(headers, policy_headers(limits))


def _replace(headers: Headers, new: Headers) -> None:
    headers[:] = [header for header in headers if header[0] not in _NAMES] + new


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)
