"""Refusals by limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from errors import RetryableError

if TYPE_CHECKING:
    from quota.receipt import Receipt


class QuotaExceeded(RetryableError):
    """`which` limit was reached; `receipt` has what the headers say."""

    def __init__(
        self, *, which: Literal["requests", "tokens"], retry_after: int, receipt: Receipt
    ) -> None:
        super().__init__(
            _exceeded(which, retry_after, receipt), retry_after=retry_after, reason=f"quota_{which}"
        )
        self.which = which
        self.receipt = receipt


class QuotaUnavailable(RetryableError):
    """The quota store does not answer."""

    reason = "quota_unavailable"


def _exceeded(which: str, retry_after: int, receipt: Receipt) -> str:
    if which == "requests":
        limit = f"{receipt.limit} requests in {receipt.window:g} seconds"
        return f"The limit is {limit}. Try again in {retry_after} seconds."
    left = f"{receipt.tokens_limit} tokens a day, of which {receipt.tokens_remaining} are left"
    return f"The limit is {left}. Send less text, or try again in {retry_after} seconds."
