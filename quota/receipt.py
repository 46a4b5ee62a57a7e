"""What a user may use, what is left of it, and the headers that say so."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Literal

from errors import whole_seconds
from quota.errors import QuotaExceeded

MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS  # µs; days begin at midnight UTC


@dataclass(frozen=True, slots=True)
class Limits:
    """``requests`` in any rolling ``window`` (seconds), and ``tokens_per_day`` (UTC) if there is a limit."""

    requests: int
    window: float
    tokens_per_day: int | None

    @property
    def window_us(self) -> int:
        return round(self.window * MICROSECONDS)


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
    """A user's limits after a charge. The last five fields are what a refund needs."""

    limit: int
    remaining: int
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
        remaining=max(0, limits.requests - standing.requests),
        reset_after=standing.free_after / MICROSECONDS,
        window=limits.window,
        tokens_limit=daily,
        tokens_remaining=None if daily is None else max(0, daily - standing.tokens),
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


def policy_header(limits: Limits) -> tuple[bytes, bytes]:
    """The limits alone, for answers to callers whose standing is not known (yet)."""
    policy = f'"requests";q={limits.requests};w={math.ceil(limits.window)}'
    if limits.tokens_per_day is not None:
        policy += f', "tokens";q={limits.tokens_per_day};w=86400'
    return (b"ratelimit-policy", policy.encode())


def quota_headers(receipt: Receipt) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), and the older X- names.

    ``t`` and X-RateLimit-Reset are seconds from now, not a date.
    """
    reset = math.ceil(receipt.reset_after)
    state = f'"requests";r={receipt.remaining};t={reset}'
    if receipt.tokens_limit is not None:
        state += f', "tokens";r={receipt.tokens_remaining};t={math.ceil(receipt.tokens_reset_after or 0)}'
    return [
        policy_header(Limits(receipt.limit, receipt.window, receipt.tokens_limit)),
        (b"ratelimit", state.encode()),
        (b"x-ratelimit-limit", b"%d" % receipt.limit),
        (b"x-ratelimit-remaining", b"%d" % receipt.remaining),
        (b"x-ratelimit-reset", b"%d" % reset),
    ]


def set_quota_headers(headers: list[tuple[bytes, bytes]], receipt: Receipt) -> None:
    """Puts the headers of ``receipt`` in place of those of an earlier one."""
    new = quota_headers(receipt)
    names = {name for name, _ in new}
    headers[:] = [header for header in headers if header[0] not in names] + new
