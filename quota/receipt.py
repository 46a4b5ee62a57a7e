"""Limits, what is left of them after a charge, and the headers that say so."""

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
    """`requests` in any rolling `window` (seconds), and `tokens_per_day` (UTC); None: no limit."""

    requests: int | None
    window: float
    tokens_per_day: int | None

    @property
    def window_us(self) -> int:
        """The window in microseconds."""
        return round(self.window * MICROSECONDS)


OwnLimits = Callable[[str], Limits | None]  # user id -> its limits where they are not all users'


def no_own_limits(_: str) -> None:
    """The same limits for everybody."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one caller, as a store reports them. Times in µs of the store's clock."""

    refused: Literal["", "requests", "tokens"]
    requests: int  # in the window that ends now
    free_after: int  # µs until the next request is possible, 0 without requests
    tokens: int  # used today
    now: int


@dataclass(frozen=True, slots=True)
class Spent:
    """The tokens charged for a request. `at`: µs of the store's clock, 0 if not counted."""

    tokens: int = 0
    at: int = 0
    shared: bool = False  # whether Redis has charged them, not only this process


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is left after a charge; None: no limit. A refund needs the last five fields."""

    limit: int | None
    remaining: int | None
    reset_after: float  # seconds until the oldest request leaves the window
    window: float  # seconds
    tokens_limit: int | None
    tokens_remaining: int | None
    tokens_reset_after: float | None  # seconds until midnight UTC
    user_id: str
    request_id: str = ""  # "": no request was charged, so none can be refunded
    charged_at: int = 0  # µs of the store's clock
    shared: bool = False  # whether Redis has charged it, not only this process
    spent: Spent = Spent()


def receipt_of(
    counts: Counts,
    limits: Limits,
    *,
    user_id: str,
    request_id: str = "",
    shared: bool = False,
) -> Receipt:
    """What `counts` leave of `limits`."""
    daily = limits.tokens_per_day
    return Receipt(
        limit=limits.requests,
        remaining=_left(limits.requests, counts.requests),
        reset_after=counts.free_after / MICROSECONDS,
        window=limits.window,
        tokens_limit=daily,
        tokens_remaining=_left(daily, counts.tokens),
        tokens_reset_after=None if daily is None else until_midnight(counts.now) / MICROSECONDS,
        user_id=user_id,
        request_id=request_id,
        charged_at=counts.now,
        shared=shared,
    )


def spent_of(
    counts: Counts, limits: Limits, *, receipt: Receipt, tokens: int, shared: bool = False
) -> Receipt:
    """`receipt` after its `tokens` were charged, with what `counts` leave."""
    left = receipt_of(counts, limits, user_id=receipt.user_id)
    return replace(
        left,
        request_id=receipt.request_id,
        charged_at=receipt.charged_at,
        shared=receipt.shared,
        spent=Spent(tokens, counts.now, shared),
    )


def tokens_alone(receipt: Receipt) -> Receipt:
    """What to refund of `receipt` if its request stays charged."""
    return replace(receipt, request_id="", shared=False)


def part_of(receipt: Receipt, *, tokens: int) -> Receipt:
    """What to refund of `receipt` if so many of its tokens were not needed."""
    return replace(tokens_alone(receipt), spent=replace(receipt.spent, tokens=tokens))


def without(receipt: Receipt, part: Receipt, *, left: Receipt) -> Receipt:
    """`receipt` after a part of its tokens was refunded, which `left` so many."""
    spent = replace(receipt.spent, tokens=receipt.spent.tokens - part.spent.tokens)
    return replace(receipt, tokens_remaining=left.tokens_remaining, spent=spent)


def refusal_of(counts: Counts, limits: Limits, *, user_id: str) -> QuotaExceeded:
    """The error for refused `counts`; a retry after `retry_after` seconds is admitted."""
    which: Literal["requests", "tokens"] = "tokens" if counts.refused == "tokens" else "requests"
    wait = counts.free_after if which == "requests" else until_midnight(counts.now)
    receipt = receipt_of(counts, limits, user_id=user_id)
    return QuotaExceeded(
        which=which, retry_after=whole_seconds(wait / MICROSECONDS), receipt=receipt
    )


def until_midnight(now: int) -> int:
    """µs from `now` to the next midnight UTC."""
    return DAY - now % DAY


def new_request_id() -> str:
    """Unique over all processes that share a store."""
    return os.urandom(9).hex()


def policy_headers(limits: Limits) -> Headers:
    """RateLimit-Policy, for answers that say nothing of what is left."""
    policies = []
    if limits.requests is not None:
        policies.append(f'"requests";q={limits.requests};w={math.ceil(limits.window)}')
    if limits.tokens_per_day is not None:
        policies.append(f'"tokens";q={limits.tokens_per_day};w=86400')
    return [(b"ratelimit-policy", ", ".join(policies).encode())] if policies else []


def quota_headers(receipt: Receipt) -> Headers:
    """RateLimit-Policy, RateLimit (draft-ietf-httpapi-ratelimit-headers-10) and the older X- names.

    `t` and X-RateLimit-Reset are seconds from now, not a date. There are none of no limit.
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
    """Replace the headers of an earlier receipt by those of `receipt`."""
    _replace(headers, quota_headers(receipt))


def set_policy(headers: Headers, limits: Limits) -> None:
    """Replace the headers of other limits by the policy of `limits`."""
    _replace(headers, policy_headers(limits))


def _replace(headers: Headers, new: Headers) -> None:
    headers[:] = [header for header in headers if header[0] not in _NAMES] + new


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)
