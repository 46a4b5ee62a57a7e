"""Quotas counted in Redis: one round trip per charge, exact over all processes that share it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from errors import ConfigurationError, whole_seconds
from quota.errors import QuotaExceeded
from quota.receipt import (
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
from quota.witness import Witnesses

SCRIPT = Path(__file__).with_name("quota.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
SOCKET_TIMEOUT = 0.25  # seconds, for connecting and for each answer
CALL_TIMEOUT = 0.75  # seconds, for a whole call, with the wait for a connection
MAX_CONNECTIONS = 32
MAX_REMEMBERED = 10_000  # users known to be over their limit
MAX_RESTORED = 1_000  # requests in one call

#: What a Redis that cannot be used raises. READONLY, OOM and MISCONF are RedisErrors.
REDIS_FAILURES = (RedisError, TimeoutError, OSError)

REFUSED: tuple[Literal["", "requests", "tokens"], ...] = ("", "requests", "tokens")
LOST = 3  # another code that quota.lua returns


class CountsLostError(RedisError):
    """Redis no longer has what it confirmed to this process."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A refusal that is repeated without asking Redis."""

    which: Literal["requests", "tokens"]
    receipt: Receipt


class RedisQuota:
    """The contract of `quota.quota.Quota` in Redis; raises REDIS_FAILURES if it cannot count.

    Args:
        url: of Redis.
        limits: of users.
        own_limits: limits of callers that are not those of users.
        clock: seconds since 1970, in place of the server's own clock.
        monotonic: seconds; only differences matter.
        space: of the counts, which begin at 0 in each space.
    """

    def __init__(
        self,
        url: str,
        limits: Limits,
        *,
        own_limits: OwnLimits = no_own_limits,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        space: str = "",
    ) -> None:
        self._start = f"quota:{space}"
        self.limits = limits
        self._own_limits = own_limits
        self._clock = clock
        self._monotonic = monotonic
        self._client = connect(url)
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._exhausted: OrderedDict[str, tuple[float, Exhausted]] = OrderedDict()
        self._witnesses = Witnesses()
        self._process = f"p:{new_request_id()}"

    def limits_of(self, user_id: str) -> Limits:
        return self._own_limits(user_id) or self.limits

    async def aclose(self) -> None:
        await self._client.aclose()

    async def ping(self) -> None:
        """Run the script: a Redis may answer but be unable to write. Raises REDIS_FAILURES."""
        await self._run("usage", "ping")

    async def charge(self, user_id: str, *, request_id: str | None = None) -> Receipt:
        limits = self.limits_of(user_id)
        request_id = request_id or new_request_id()
        counts = await self._charged("charge", user_id, request_id=request_id)
        if limits.requests is None:  # Redis checked the tokens of the day alone
            return receipt_of(counts, limits, user_id=user_id)
        receipt = receipt_of(counts, limits, user_id=user_id, request_id=request_id, shared=True)
        self._witnesses.saw_charge(receipt)
        return receipt

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt:
        counts = await self._charged("spend", receipt.user_id, tokens=tokens)
        limits = self.limits_of(receipt.user_id)
        spent = spent_of(counts, limits, receipt=receipt, tokens=tokens, shared=True)
        self._witnesses.saw_tokens(spent)
        return spent

    async def refund(self, receipt: Receipt) -> Receipt:
        """Take back what Redis charged."""
        self._exhausted.pop(receipt.user_id, None)
        self._witnesses.forget(receipt)
        spent = receipt.spent if receipt.spent.shared else Spent()
        counts = await self._run(
            "refund",
            receipt.user_id,
            request_id=receipt.request_id if receipt.shared else "",
            tokens=spent.tokens,
            spent_at=spent.at,
        )
        return receipt_of(counts, self.limits_of(receipt.user_id), user_id=receipt.user_id)

    async def usage(self, user_id: str) -> Receipt:
        counts = await self._run("usage", user_id)
        return receipt_of(counts, self.limits_of(user_id), user_id=user_id)

    async def generation(self) -> object:
        """The mark that the first process set; another one after everything was lost."""
        return await self._call("generation", "generation", new_request_id(), 0, 0, 0, 0, 0)

    async def eviction_policy(self) -> str:
        """Its maxmemory-policy; "" if it does not say. Raises REDIS_FAILURES."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT), self._slots:
                return str((await self._client.info("memory")).get("maxmemory_policy", ""))
        except ResponseError:  # an ACL may forbid it
            return ""

    async def restore(self, user_id: str, ages: Mapping[str, int]) -> None:
        """Restore lost requests (id -> age in µs), and tokens confirmed to this process."""
        entries = list(ages.items())
        for start in range(0, len(entries) or 1, MAX_RESTORED):
            await self._run("restore", user_id, entries=entries[start : start + MAX_RESTORED])
        self._witnesses.keep_only(user_id, ages)

    def check(self, user_id: str) -> None:
        """Raises QuotaExceeded for a user that Redis would still refuse, without asking it."""
        if user_id not in self._exhausted:
            return
        until, refused = self._exhausted[user_id]
        wait = until - self._monotonic()
        if wait <= 0:
            del self._exhausted[user_id]
            return
        receipt = replace(refused.receipt, reset_after=wait)
        raise QuotaExceeded(which=refused.which, retry_after=whole_seconds(wait), receipt=receipt)

    def _remember(self, refusal: QuotaExceeded, *, asked_at: float) -> None:
        """Remember a refusal: no request is possible within `reset_after` of `asked_at`.

        A user with some tokens left is not remembered, because a shorter text may still fit.
        """
        receipt = refusal.receipt
        wait = receipt.reset_after
        if refusal.which == "tokens":
            if receipt.tokens_remaining:
                return
            wait = min(receipt.tokens_reset_after or 0.0, receipt.window)
        self._exhausted[receipt.user_id] = (asked_at + wait, Exhausted(refusal.which, receipt))
        self._exhausted.move_to_end(receipt.user_id)
        if len(self._exhausted) > MAX_REMEMBERED:
            self._exhausted.popitem(last=False)

    async def _charged(
        self, operation: str, user_id: str, *, request_id: str = "", tokens: int = 0
    ) -> Counts:
        """Raises QuotaExceeded, and remembers it."""
        asked_at = self._monotonic()
        counts = await self._run(operation, user_id, request_id=request_id, tokens=tokens)
        if counts.refused:
            refusal = refusal_of(counts, self.limits_of(user_id), user_id=user_id)
            self._remember(refusal, asked_at=asked_at)
            raise refusal
        return counts

    async def _run(
        self,
        operation: str,
        user_id: str,
        *,
        request_id: str = "",
        tokens: int = 0,
        spent_at: int = 0,
        entries: Sequence[tuple[str, int]] = (),
    ) -> Counts:
        """Raises REDIS_FAILURES; Recovery.mend helps against CountsLostError."""
        while True:
            witness = self._witnesses.of(user_id)
            asked: list[str | int] = [
                operation,
                request_id,
                tokens,
                *self._numbers(user_id),
                spent_at,
            ]
            known = (self._process, witness.request_id, witness.at, witness.tokens, witness.day)
            asked += [*known, *(value for entry in entries for value in entry)]
            answer = await self._call(user_id, *asked)
            try:
                return counts_of(answer)
            except CountsLostError:  # or a refund has taken it back meanwhile
                if self._witnesses.of(user_id) == witness:
                    raise

    def _numbers(self, user_id: str) -> tuple[int, ...]:
        """What quota.lua takes as ARGV 4 to 7."""
        limits = self.limits_of(user_id)
        requests = -1 if limits.requests is None else limits.requests
        per_day = -1 if limits.tokens_per_day is None else limits.tokens_per_day
        now = -1 if self._clock is None else int(self._clock() * MICROSECONDS)
        return (requests, limits.window_us, per_day, now)

    async def _call(self, tag: str, *arguments: str | int) -> object:
        start = f"{self._start}{{{tag}}}"  # in one slot of a cluster
        keys = (f"{start}:requests", f"{start}:tokens")
        async with asyncio.timeout(CALL_TIMEOUT), self._slots:
            return await self._evaluate((*keys, *arguments))

    async def _evaluate(self, arguments: tuple[str | int, ...]) -> object:
        try:
            try:
                return await self._client.evalsha(SCRIPT_SHA, 2, *arguments)
            except NoScriptError:  # a new or restarted server; nothing has run yet
                return await self._client.eval(SCRIPT, 2, *arguments)
        except ValueError as error:
            raise InvalidResponse("not a Redis server") from error


def is_denial(error: BaseException) -> bool:
    """Whether an ACL forbade a command, also one within the script."""
    return isinstance(error, NoPermissionError) or "ACL failure" in str(error)


def counts_of(answer: object) -> Counts:
    """What quota.lua returned. Raises CountsLostError, InvalidResponse for anything else."""
    match answer:
        case [int(refused), int(requests), int(free_after), int(tokens), int(now)] if (
            0 <= refused < len(REFUSED)
        ):
            return Counts(REFUSED[refused], requests, free_after, tokens, now)
        case [int(refused), *_] if refused == LOST:
            raise CountsLostError("counts were lost")
    raise InvalidResponse("not the answer of quota.lua")


def connect(url: str) -> redis.asyncio.Redis:
    """A client with short timeouts that does not retry: a script that runs twice charges twice.

    Raises:
        ConfigurationError: `url` is not an address of Redis.
    """
    try:
        client = redis.asyncio.Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
            max_connections=MAX_CONNECTIONS,
        )
        client.connection_pool.connection_class(
            **client.connection_pool.connection_kwargs
        )  # does not connect, but checks the options in the URL
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            "REDIS_URL is not an address: write redis://[user:password@]host:6379/0 or rediss://…"
        ) from error
    return client
