"""How much a user may use: the contract, and Redis with a way on when Redis fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, Protocol

from auth.breaker import Breaker
from auth.errors import QuotaExceeded, QuotaUnavailable
from auth.memory_quota import MemoryQuota
from auth.receipt import (
    Limits,
    Receipt,
    Standing,
    new_request_id,
    quota_headers,
    receipt_of,
    set_quota_headers,
)
from auth.redis_quota import REDIS_FAILURES, RedisQuota

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

log = logging.getLogger(__name__)


class Quota(Protocol):
    """Requests in any rolling window and tokens a UTC day, for each user. Refused calls cost nothing."""

    limits: Limits

    @property
    def state(self) -> State:
        """``ok``: Redis counts. ``degraded``: it fails, the fallback rules. ``disabled``: there is none."""

    async def start(self) -> bool:
        """Whether the store answers."""

    async def ping(self) -> bool:
        """Asks the store, and so notices its recovery without a user's request."""

    async def aclose(self) -> None: ...

    def check(self, user_id: str) -> Receipt:
        """What this process knows of the user, asking nobody. Raises QuotaExceeded if that is enough."""

    async def charge(self, user_id: str, *, tokens: int) -> Receipt:
        """One request and its tokens, or nothing. Raises QuotaExceeded, QuotaUnavailable."""

    async def refund(self, receipt: Receipt) -> None:
        """Takes a charge back, once; never raises. For requests that we failed to serve."""

    async def usage(self, user_id: str) -> Receipt:
        """The user's standing, free of charge. Raises QuotaUnavailable."""


class GuardedQuota:
    """Redis behind a breaker, with a count of our own beside it.

    Every charge is held here first. So one process stays exact whatever becomes of Redis - down,
    hung, or restarted empty - and a user known to be over the limit costs no round trip.

    While Redis fails, ``on_error`` rules: ``local`` counts here alone (exact for this process),
    ``open`` admits everybody, ``closed`` raises QuotaUnavailable.
    """

    def __init__(
        self, shared: RedisQuota, local: MemoryQuota, *, on_error: OnError, breaker: Breaker
    ) -> None:
        self.limits = shared.limits
        self._shared = shared
        self._local = local
        self._on_error = on_error
        self._breaker = breaker

    @property
    def state(self) -> State:
        return "ok" if self._breaker.healthy else "degraded"

    async def start(self) -> bool:
        return await self.ping()

    async def ping(self) -> bool:
        if not self._breaker.admits():
            return False
        try:
            await self._shared.ping()
        except REDIS_FAILURES as error:
            self._failed(error)
            return False
        self._succeeded()
        return True

    async def aclose(self) -> None:
        await self._shared.aclose()

    def check(self, user_id: str) -> Receipt:
        if self._on_error == "open" and not self._breaker.healthy:
            return self._local.usage_now(user_id)
        self._shared.check(user_id)
        return self._local.check(user_id)

    async def charge(self, user_id: str, *, tokens: int) -> Receipt:
        request_id = new_request_id()
        held = self._hold(user_id, tokens, request_id)
        if self._breaker.admits():
            try:
                receipt = await self._shared.charge(user_id, tokens=tokens, request_id=request_id)
            except QuotaExceeded:
                self._succeeded()
                self._release(held)
                raise
            except REDIS_FAILURES as error:
                self._failed(error)
            else:
                self._succeeded()
                self._confirm(held)
                return receipt
        return self._charge_alone(user_id, held)

    async def refund(self, receipt: Receipt) -> None:
        self._local.refund_now(receipt)
        if receipt.shared and self._breaker.admits():
            try:
                await self._shared.refund(receipt)
            except REDIS_FAILURES as error:
                self._failed(error)

    async def usage(self, user_id: str) -> Receipt:
        if self._breaker.admits():
            try:
                receipt = await self._shared.usage(user_id)
            except REDIS_FAILURES as error:
                self._failed(error)
            else:
                self._succeeded()
                return receipt
        if self._on_error == "closed":
            raise _unavailable()
        return self._local.usage_now(user_id)

    def _hold(self, user_id: str, tokens: int, request_id: str) -> Receipt | None:
        """A place in our own count. Raises QuotaExceeded."""
        if self._on_error == "open" and not self._breaker.healthy:
            return None  # nobody is refused while Redis is in doubt
        return self._local.charge_now(user_id, tokens=tokens, request_id=request_id)

    def _release(self, held: Receipt | None) -> None:
        if held:
            self._local.refund_now(held)

    def _confirm(self, held: Receipt | None) -> None:
        """Redis dates a charge later than we do, and no slot may free here before it frees there."""
        if held:
            self._local.stamp_again(held)

    def _charge_alone(self, user_id: str, held: Receipt | None) -> Receipt:
        """What ``on_error`` says. Raises QuotaUnavailable."""
        if self._on_error == "closed":
            self._release(held)
            raise _unavailable()
        self._confirm(held)
        return held or receipt_of(Standing("", 0, 0, 0, 0), self.limits, user_id=user_id)

    def _failed(self, error: BaseException) -> None:
        if self._breaker.healthy:
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
    window: float = 60.0,
    clock: Callable[[], float] = time.time,
) -> Quota:
    """The quota that the settings describe: in Redis if there is one, else in this process.

    ``window`` is in seconds; ``clock`` (seconds since 1970) is this process's, Redis keeps its own.
    """
    limits = Limits(requests=per_minute, window=window, tokens_per_day=tokens_per_day)
    local = MemoryQuota(limits, clock=clock)
    if redis_url is None:
        return local
    return GuardedQuota(RedisQuota(redis_url, limits), local, on_error=on_error, breaker=Breaker())


def _unavailable() -> QuotaUnavailable:
    return QuotaUnavailable(
        "Requests cannot be counted at the moment. Try again in a few seconds.", retry_after=3
    )
