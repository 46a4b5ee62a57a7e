"""Which addresses send tokens that fail, and from when on they are told so without a look."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from errors import whole_seconds
from gate.errors import TooManyFailures

MAX_ADDRESSES = 4096
WINDOW = 60.0  # seconds
TRUSTED = 300.0  # seconds after a good token for which every token of its address is verified
LOOKS = 10  # times its budget that tokens of any other address are verified

Value = TypeVar("Value")


class FailureBudget:
    """``per_minute`` failed tokens of one address get their own refusal, all others TooManyFailures.

    A good token is never refused by it: tokens are verified first, and only failures count. What
    bounds the work is that an address which failed LOOKS times as often, and sent no good token
    lately, is refused unverified. Remembers the addresses seen last.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # window's start, count
        self._good: OrderedDict[str, float] = OrderedDict()  # when the last good token came

    def check(self, address: str) -> None:
        """Before a token is verified. Raises TooManyFailures."""
        now = self._clock()
        began, count = self._failures.get(address, (0.0, 0))
        if count < LOOKS * self._limit or now - began >= WINDOW:
            return
        if now - self._good.get(address, float("-inf")) >= TRUSTED:
            raise _too_many(began + WINDOW - now)

    def failed(self, address: str) -> None:
        """A token was not valid. Raises TooManyFailures once the budget is used up."""
        now = self._clock()
        began, count = self._failures.get(address, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        _remember(self._failures, address, (began, count + 1))
        if count >= self._limit:
            raise _too_many(began + WINDOW - now)

    def succeeded(self, address: str) -> None:
        """A token was good."""
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
