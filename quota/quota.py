"""How much a user may use: the contract, and Redis with a way on when Redis fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

from quota.breaker import Breaker
from quota.errors import QuotaExceeded, QuotaUnavailable
from quota.memory import MemoryQuota
from quota.receipt import (
    WINDOW,
    Limits,
    OwnLimits,
    Receipt,
    Spent,
    Standing,
    new_request_id,
    no_own_limits,
    quota_headers,
    receipt_of,
    set_quota_headers,
    tokens_alone,
)
from quota.recovery import Recovery
from quota.redis import REDIS_FAILURES, CountsLostError, RedisQuota, is_denial

__all__ = [
    "GuardedQuota",
    "Limits",
    "MemoryQuota",
    "Quota",
    "Receipt",
    "RedisQuota",
    "make_quota",
    "quota_headers",
    "set_quota_headers",
]

State = Literal["ok", "degraded", "disabled"]
OnError = Literal["local", "open", "closed"]

WATCHED_EVERY = 1.0  # seconds between two looks at whether Redis is there, with what it had

log = logging.getLogger(__name__)


class Quota(Protocol):
    """Requests in any rolling window and tokens per UTC day, for each user."""

    limits: Limits  # of users

    def limits_of(self, user_id: str) -> Limits:
        """Those of a caller, which may be its own."""

    @property
    def state(self) -> State:
        """``ok``: Redis counts. ``degraded``: it fails, the fallback rules. ``disabled``: there is none."""

    async def start(self) -> bool:
        """Whether the store answers."""

    async def ping(self) -> bool:
        """Asks the store, and so notices its recovery without a user's request."""

    async def aclose(self) -> None: ...

    async def charge(self, user_id: str) -> Receipt:
        """One request, or nothing. Raises QuotaExceeded (also for a spent day), QuotaUnavailable."""

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt:
        """The tokens of a charged request, once: the receipt to go on with.

        Raises QuotaExceeded (the request stays charged, no token is), QuotaUnavailable.
        """

    async def refund(self, receipt: Receipt) -> Receipt:
        """Takes a charge back, once, and says what is left then; never raises.

        Of a request that stays charged, ``tokens_alone(receipt)``.
        """

    async def usage(self, user_id: str) -> Receipt:
        """The user's standing, free of charge. Raises QuotaUnavailable."""


class GuardedQuota:
    """Redis behind a breaker, with a count of our own beside it.

    Every charge is held here first. So one process stays exact whatever becomes of Redis - down,
    hung, or restarted empty - and a user known to be over the limit costs no round trip. Redis dates
    a charge later than we do, and no slot may free here before it frees there: it is dated again.
    What Redis lost of this process's charges is brought back: when their user calls next, or
    within WATCHED_EVERY seconds where everything was lost.

    While Redis fails, ``on_error`` rules: ``local`` counts here alone (exact for this process),
    ``open`` admits everybody, ``closed`` raises QuotaUnavailable.
    """

    def __init__(
        self,
        shared: RedisQuota,
        local: MemoryQuota,
        *,
        on_error: OnError,
        breaker: Breaker,
        report_loss: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = shared.limits
        self._shared = shared
        self._local = local
        self._on_error = on_error
        self._breaker = breaker
        self._recovery = Recovery(shared, local, report=report_loss)
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def state(self) -> State:
        return "ok" if self._breaker.healthy else "degraded"

    def limits_of(self, user_id: str) -> Limits:
        return self._local.limits_of(user_id)

    async def start(self) -> bool:
        answers = await self.ping()
        self._watching = asyncio.create_task(self._watch(), name="watch-redis")
        return answers

    async def ping(self) -> bool:
        if not self._breaker.admits():
            return False
        try:
            await self._shared.ping()
            await self._recovery.look()
        except REDIS_FAILURES as error:
            self._failed(error)
            return False
        self._succeeded()
        return True

    async def aclose(self) -> None:
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._shared.aclose()

    async def charge(self, user_id: str) -> Receipt:
        held = self._hold(user_id)
        self._recovery.undecided.add(held.request_id)
        try:
            receipt = await self._ask(
                user_id, partial(self._shared.charge, user_id, request_id=held.request_id)
            )
        except QuotaExceeded:
            self._local.refund_now(held)
            raise
        finally:
            self._recovery.undecided.discard(held.request_id)
        if receipt is None:
            self._refuse_when_closed(held)
        self._local.stamp_again(held)
        return receipt or held

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt:
        if self._open or self.limits_of(receipt.user_id).tokens_per_day is None:
            return replace(receipt, spent=Spent(tokens))
        held = self._local.spend_now(receipt, tokens=tokens)
        try:
            spent = await self._ask(
                receipt.user_id, partial(self._shared.spend, receipt, tokens=tokens)
            )
        except QuotaExceeded:
            self._local.refund_now(tokens_alone(held))
            raise
        if spent is None:
            self._refuse_when_closed(tokens_alone(held))
        return spent or held

    async def refund(self, receipt: Receipt) -> Receipt:
        left = self._local.refund_now(receipt)
        if not (receipt.shared or receipt.spent.shared):
            return left
        refund = partial(self._shared.refund, receipt)
        return await self._ask(receipt.user_id, refund) or left

    async def usage(self, user_id: str) -> Receipt:
        receipt = await self._ask(user_id, partial(self._shared.usage, user_id))
        if receipt is None and self._on_error == "closed":
            raise _unavailable()
        return receipt or self._local.usage_now(user_id)

    async def _ask(
        self, user_id: str, question: Callable[[], Awaitable[Receipt]]
    ) -> Receipt | None:
        """What Redis says, or None while it says nothing. Raises QuotaExceeded."""
        if not self._breaker.admits():
            return None
        try:
            try:
                answer = await question()
            except CountsLostError:
                await self._recovery.mend(user_id)
                answer = await question()
        except QuotaExceeded:
            self._succeeded()
            raise
        except REDIS_FAILURES as error:
            self._failed(error)
            return None
        self._succeeded()
        return answer

    async def _watch(self) -> None:
        while not self._closed:  # wait_for of Python 3.11, in redis-py, may swallow a cancellation
            await asyncio.sleep(WATCHED_EVERY)
            await self.ping()

    @property
    def _open(self) -> bool:
        """Whether nobody is refused, because Redis is in doubt."""
        return self._on_error == "open" and not self._breaker.healthy

    def _hold(self, user_id: str) -> Receipt:
        """A place in our own count. Raises QuotaExceeded."""
        request_id = new_request_id()
        if self._open:
            nothing = Standing("", 0, 0, 0, 0)
            limits = self.limits_of(user_id)
            return receipt_of(nothing, limits, user_id=user_id, request_id=request_id)
        self._shared.check(user_id)
        return self._local.charge_now(user_id, request_id=request_id)

    def _refuse_when_closed(self, held: Receipt) -> None:
        """Raises QuotaUnavailable."""
        if self._on_error == "closed":
            self._local.refund_now(held)
            raise _unavailable()

    def _failed(self, error: BaseException) -> None:
        if self._breaker.healthy and is_denial(error):
            log.error(
                "redis_denied on_error=%s: the user of REDIS_URL may not count. ACL SETUSER it "
                "with ~quota:* ~blocked_users +@read +@write +@scripting +time +info",
                self._on_error,
            )
        elif self._breaker.healthy:
            log.warning("redis_failed error=%s on_error=%s", type(error).__name__, self._on_error)
        self._breaker.failed()

    def _succeeded(self) -> None:
        if not self._breaker.healthy:
            log.warning("redis_recovered")
        self._breaker.succeeded()


def make_quota(
    *,
    redis_url: str | None,
    per_minute: int,
    tokens_per_day: int | None = None,
    on_error: OnError = "local",
    own_limits: OwnLimits = no_own_limits,
    window: float = WINDOW,
    clock: Callable[[], float] = time.time,
    report_loss: Callable[[], None] = lambda: None,
) -> Quota:
    """The quota that the settings describe: in Redis if there is one, else in this process.

    ``own_limits`` are those of callers who have others. ``window`` is in seconds; ``clock`` (seconds
    since 1970) is this process's, Redis keeps its own.
    """
    limits = Limits(requests=per_minute, window=window, tokens_per_day=tokens_per_day)
    local = MemoryQuota(limits, own_limits=own_limits, clock=clock)
    if redis_url is None:
        return local
    return GuardedQuota(
        RedisQuota(redis_url, limits, own_limits=own_limits),
        local,
        on_error=on_error,
        breaker=Breaker(),
        report_loss=report_loss,
    )


def _unavailable() -> QuotaUnavailable:
    return QuotaUnavailable(
        "Requests cannot be counted at the moment. Try again in a few seconds.", retry_after=3
    )
