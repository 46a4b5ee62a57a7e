"""Counts failed tokens per address, and refuses addresses that send too many."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from errors import whole_seconds
from gate.errors import TooManyFailures

MAX_ADDRESSES = 4096
WINDOW = 60.0  # seconds
TRUSTED = 300.0  # seconds after a valid token in which all tokens of its address are verified
LOOKS = 10  # times the limit: further tokens of other addresses are not verified

Value = TypeVar("Value")


class FailureBudget:
    """Bounds failed tokens per address.

    The first `per_minute` failures of an address in a minute are answered with their own error,
    further ones with TooManyFailures. Tokens are verified first and only failures count, so a valid
    token is served. To bound the work, an address with LOOKS times as many failures, and no valid
    token in the last TRUSTED seconds, is refused without verification. The MAX_ADDRESSES addresses
    that were seen last are remembered.

    Args:
        per_minute: failures.
        clock: seconds; only differences matter.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # window's start, count
        self._good: OrderedDict[str, float] = OrderedDict()  # when the last good token came

    def check(self, address: str) -> None:
        """Call before a token is verified. Raises TooManyFailures."""
        now = self._clock()
        began, count = self._failures.get(address, (0.0, 0))
        if count < LOOKS * self._limit or now - began >= WINDOW:
            return
        if now - self._good.get(address, float("-inf")) >= TRUSTED:
            raise _too_many(began + WINDOW - now)

    def failed(self, address: str) -> None:
        """Count an invalid token. Raises TooManyFailures if it is one too many."""
        now = self._clock()
        began, count = self._failures.get(address, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        _remember(self._failures, address, (began, count + 1))
        if count >= self._limit:
            raise _too_many(began + WINDOW - now)

    def succeeded(self, address: str) -> None:
        """Note a valid token."""
        _remember(self._good, address, self._clock())


def _remember(table: OrderedDict[str, Value], address: str, value: Value) -> None:
    table[address] = value
    table.move_to_end(address)
    if len(table) > MAX_ADDRESSES:
        table.popitem(last=False)


def _too_many(left: float) -> TooManyFailures:
    return TooManyFailures(
        "Too many requests without a valid token came from your address. Sign in, then try again.",
        retry_after=whole_seconds(left),
    )
