"""Quotas counted in memory: exact for one process, lost when it ends."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Literal

from quota.receipt import (
    DAY,
    MICROSECONDS,
    Counts,
    Limits,
    OwnLimits,
    Receipt,
    Spent,
    new_request_id,
    no_own_limits,
    receipt_of,
    refusal_of,
    spent_of,
)


@dataclass(slots=True)
class Account:
    """The requests of one caller in order of time (id -> µs), and its tokens of the day."""

    log: dict[str, int] = field(default_factory=dict)
    day: int = 0
    tokens: int = 0
    last_used: int = 0  # µs

    def settle(self, now: int, window: int) -> None:
        """Remove what is older than the window.

        Times in the future, which a clock that was set back leaves, become `now`.
        """
        if self.log and next(reversed(self.log.values())) > now:
            self.log.update((request_id, now) for request_id, at in self.log.items() if at > now)
        gone = list(takewhile(lambda entry: entry[1] <= now - window, self.log.items()))
        for request_id, _ in gone:
            del self.log[request_id]
        if self.day < now // DAY:
            self.tokens = 0
        self.day = now // DAY


class MemoryQuota:
    """The contract of `quota.quota.Quota` in a dict.

    Args:
        limits: of every user.
        own_limits: those of a caller who has others; None for users. There are few such callers,
            and they are never forgotten.
        clock: seconds since 1970.
    """

    state: Literal["ok", "degraded", "disabled"] = "disabled"

    def __init__(
        self,
        limits: Limits,
        *,
        own_limits: OwnLimits = no_own_limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self._own_limits = own_limits
        self._clock = clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()  # least recently charged first
        self._kept: dict[str, Account] = {}  # of callers with limits of their own

    async def start(self) -> bool:
        return True

    async def ping(self) -> bool:
        return True

    async def aclose(self) -> None:
        """Nothing is open."""

    def limits_of(self, user_id: str) -> Limits:
        return self._own_limits(user_id) or self.limits

    async def charge(self, user_id: str) -> Receipt:
        return self.charge_now(user_id)

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt:
        return self.spend_now(receipt, tokens=tokens)

    async def refund(self, receipt: Receipt) -> Receipt:
        return self.refund_now(receipt)

    async def usage(self, user_id: str) -> Receipt:
        return self.usage_now(user_id)

    def charge_now(self, user_id: str, *, request_id: str | None = None) -> Receipt:
        """Charge one request. Raises QuotaExceeded, and then charges nothing."""
        counts = self._counts(user_id)
        limits = self.limits_of(user_id)
        if limits.requests is not None and counts.requests >= limits.requests:
            raise refusal_of(_refused(counts, "requests"), limits, user_id=user_id)
        if limits.tokens_per_day is not None and counts.tokens >= limits.tokens_per_day:
            raise refusal_of(_refused(counts, "tokens"), limits, user_id=user_id)
        if limits.requests is None:  # nothing to count, and nothing to give back
            return receipt_of(counts, limits, user_id=user_id)
        request_id = request_id or new_request_id()
        self._account(user_id, counts.now).log[request_id] = counts.now
        after = self._counts(user_id, counts.now)
        return receipt_of(after, limits, user_id=user_id, request_id=request_id)

    def spend_now(self, receipt: Receipt, *, tokens: int) -> Receipt:
        """Charge tokens. Raises QuotaExceeded, and then charges nothing."""
        user_id = receipt.user_id
        limits = self.limits_of(user_id)
        if limits.tokens_per_day is None:
            return replace(receipt, spent=Spent(tokens))
        counts = self._counts(user_id)
        if counts.tokens + tokens > limits.tokens_per_day:
            raise refusal_of(_refused(counts, "tokens"), limits, user_id=user_id)
        self._account(user_id, counts.now).tokens += tokens
        after = self._counts(user_id, counts.now)
        return spent_of(after, limits, receipt=receipt, tokens=tokens)

    def refund_now(self, receipt: Receipt) -> Receipt:
        """Take exactly this charge back; its tokens only on the day of the charge."""
        if account := self._find(receipt.user_id):
            account.log.pop(receipt.request_id, None)
            if account.day == receipt.spent.at // DAY:
                account.tokens = max(0, account.tokens - receipt.spent.tokens)
        return self.usage_now(receipt.user_id)

    def usage_now(self, user_id: str) -> Receipt:
        return receipt_of(self._counts(user_id), self.limits_of(user_id), user_id=user_id)

    def users(self) -> list[str]:
        """Callers that may have something in the window or the day."""
        return [*self._accounts, *self._kept]

    def ages(self, user_id: str) -> dict[str, int]:
        """The requests of the window: id -> µs since."""
        now = self._counts(user_id).now
        account = self._find(user_id)
        return {request: now - at for request, at in account.log.items()} if account else {}

    def stamp_again(self, receipt: Receipt) -> None:
        """Set the time of a charge to now, because Redis charged it later than this process."""
        account = self._find(receipt.user_id)
        if account and account.log.pop(receipt.request_id, None) is not None:
            account.last_used = account.log[receipt.request_id] = self._now()

    def _now(self) -> int:
        return int(self._clock() * MICROSECONDS)

    def _account(self, user_id: str, now: int) -> Account:
        if self._own_limits(user_id):
            return self._kept.setdefault(user_id, Account(day=now // DAY))
        self._forget_idle(now)
        account = self._accounts.setdefault(user_id, Account(day=now // DAY))
        self._accounts.move_to_end(user_id)
        account.last_used = now
        return account

    def _find(self, user_id: str) -> Account | None:
        return self._accounts.get(user_id) or self._kept.get(user_id)

    def _counts(self, user_id: str, now: int | None = None) -> Counts:
        now = self._now() if now is None else now
        account = self._find(user_id)
        if account is None:
            return Counts("", 0, 0, 0, now)
        limits = self.limits_of(user_id)
        window = limits.window_us
        account.settle(now, window)
        first = max(0, len(account.log) - (limits.requests or 0))
        oldest = next(islice(account.log.values(), first, None), None)
        free_after = 0 if oldest is None else oldest + window - now
        return Counts("", len(account.log), free_after, account.tokens, now)

    def _forget_idle(self, now: int) -> None:
        """Remove users without requests in the window and tokens in the day, to bound memory."""
        keep = DAY if self.limits.tokens_per_day is not None else self.limits.window_us
        while self._accounts:
            user_id, account = next(iter(self._accounts.items()))
            if account.last_used > now - keep:
                return
            del self._accounts[user_id]


def _refused(counts: Counts, which: Literal["requests", "tokens"]) -> Counts:
    return Counts(which, counts.requests, counts.free_after, counts.tokens, counts.now)
