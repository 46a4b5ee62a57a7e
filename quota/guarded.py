"""A quota in Redis that works on while Redis fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from quota.breaker import Breaker
from quota.errors import QuotaExceeded, QuotaUnavailable
from quota.memory import MemoryQuota
from quota.quota import Quota, State
from quota.receipt import (
    WINDOW,
    Counts,
    Limits,
    OwnLimits,
    Receipt,
    Spent,
    new_request_id,
    no_own_limits,
    receipt_of,
    tokens_alone,
)
from quota.recovery import Recovery
from quota.redis import REDIS_FAILURES, CountsLostError, RedisQuota, is_denial

OnError = Literal["local", "open", "closed"]

WATCHED_EVERY = 1.0  # seconds between two checks of Redis and its data

log = logging.getLogger(__name__)


class GuardedQuota:
    """Redis behind a breaker, and the same counts in memory.

    Every charge is counted in memory first. So one process stays exact whatever happens to Redis
    (down, hung, restarted empty), and a user known to be over the limit costs no round trip. Redis
    charges later than this process, and a slot must not become free here before it does there, so
    the time in memory is set again. Charges of this process that Redis lost are restored: when
    their user calls next, or within WATCHED_EVERY seconds if everything was lost.

    Args:
        shared: Redis.
        local: the counts in memory.
        on_error: while Redis fails, `local` counts in memory (exact for one process), `open` admits
            everybody, `closed` raises QuotaUnavailable.
        breaker: decides when to ask Redis again.
        report_loss: is called when counts were lost.
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
        """The answer of Redis, or None while it fails. Raises QuotaExceeded."""
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
        """Whether everybody is admitted, because Redis fails."""
        return self._on_error == "open" and not self._breaker.healthy

    def _hold(self, user_id: str) -> Receipt:
        """Charge a request in memory. Raises QuotaExceeded."""
        request_id = new_request_id()
        if self._open:
            nothing = Counts("", 0, 0, 0, 0)
            limits = self.limits_of(user_id)
            return receipt_of(nothing, limits, user_id=user_id, request_id=request_id)
        self._shared.check(user_id)
        return self._local.charge_now(user_id, request_id=request_id)

    def _refuse_when_closed(self, held: Receipt) -> None:
        """Take the charge back and raise QuotaUnavailable, if `on_error` says so."""
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
    space: str = "",
) -> Quota:
    """A quota in Redis, if `redis_url` names one, or in memory.

    Args:
        redis_url: of Redis.
        per_minute: requests of a user in `window`.
        tokens_per_day: of a user; None for no limit.
        on_error: as of GuardedQuota.
        own_limits: limits of callers that are not those of users.
        window: seconds.
        clock: seconds since 1970, of this process; Redis has its own.
        report_loss: as of GuardedQuota.
        space: as of RedisQuota.
    """
    limits = Limits(requests=per_minute, window=window, tokens_per_day=tokens_per_day)
    local = MemoryQuota(limits, own_limits=own_limits, clock=clock)
    if redis_url is None:
        return local
    return GuardedQuota(
        RedisQuota(redis_url, limits, own_limits=own_limits, space=space),
        local,
        on_error=on_error,
        breaker=Breaker(),
        report_loss=report_loss,
    )


def _unavailable() -> QuotaUnavailable:
    return QuotaUnavailable(
        "Requests cannot be counted at the moment. Try again in a few seconds.", retry_after=3
    )
