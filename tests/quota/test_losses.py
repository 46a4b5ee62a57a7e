"""Redis loses counts, or may not count: this is logged, and limits are exact again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from lab.redis_server import RedisServer
from quota.breaker import Breaker
from quota.errors import QuotaExceeded
from quota.guarded import WATCHED_EVERY, GuardedQuota
from quota.memory import MemoryQuota
from quota.receipt import Limits, Receipt, tokens_alone
from quota.redis import RedisQuota

LIMIT = 10
DAY = 1000  # tokens

Loss = Callable[[RedisServer, str], object]
LOSSES: dict[str, Loss] = {
    "flushed": lambda server, _: server.command("FLUSHALL"),
    "evicted": lambda server, user: server.command(
        "DEL", f"quota:{{{user}}}:requests", f"quota:{{{user}}}:tokens"
    ),
}


class Process(GuardedQuota):
    """One of several processes; counts how often it found a loss."""

    def __init__(self, url: str) -> None:
        limits = Limits(LIMIT, 60.0, DAY)
        self.losses = 0
        super().__init__(
            RedisQuota(url, limits),
            MemoryQuota(limits),
            on_error="local",
            breaker=Breaker(),
            report_loss=self._count,
        )

    def _count(self) -> None:
        self.losses += 1

    async def admits(self, user: str, *, tokens: int = 0) -> Receipt | None:
        try:
            return await self.spend(await self.charge(user), tokens=tokens)
        except QuotaExceeded:
            return None


@pytest.fixture
async def pair(fragile_redis: RedisServer) -> AsyncIterator[list[Process]]:
    """Two processes with one Redis that do not watch it."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(contextlib.aclosing(Process(fragile_redis.url)))
            for _ in range(2)
        ]


@pytest.fixture
def user() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize("lose", LOSSES.values(), ids=list(LOSSES))
async def test_what_two_processes_admitted_is_counted_again_when_their_user_calls(
    fragile_redis: RedisServer, pair: list[Process], user: str, lose: Loss
) -> None:
    admitted = [await process.admits(user) for process in pair for _ in range(LIMIT // 2)]
    assert all(admitted)
    lose(fragile_redis, user)
    after = [await process.admits(user) for _ in range(LIMIT) for process in pair]
    assert sum(map(bool, after)) <= 1  # it was admitted before the other one had been asked
    assert pair[0].losses == pair[1].losses == 1


async def test_everything_is_counted_again_within_a_second_also_where_nobody_calls(
    fragile_redis: RedisServer, pair: list[Process], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    for process in pair:
        await process.start()
        for _ in range(LIMIT // 2):
            assert await process.admits(user)
    fragile_redis.command("FLUSHALL")
    await asyncio.sleep(2 * WATCHED_EVERY)
    assert not await pair[0].admits(user)
    assert not await pair[1].admits(user)
    assert pair[0].losses == pair[1].losses == 1
    assert caplog.text.count("redis_lost_counts") == 2  # once in each process


async def test_many_losses_are_one_line_in_a_minute(
    fragile_redis: RedisServer, pair: list[Process], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        assert await pair[0].admits(user)
        fragile_redis.command("FLUSHALL")
    await pair[0].usage(user)
    assert pair[0].losses == 5
    assert caplog.text.count("redis_lost_counts") == 1


@pytest.mark.parametrize("lose", LOSSES.values(), ids=list(LOSSES))
async def test_the_tokens_of_the_day_are_counted_again(
    fragile_redis: RedisServer, pair: list[Process], user: str, lose: Loss
) -> None:
    assert await pair[0].admits(user, tokens=300)
    assert await pair[1].admits(user, tokens=400)
    lose(fragile_redis, user)
    assert (await pair[0].usage(user)).tokens_remaining == DAY - 300
    assert (await pair[1].usage(user)).tokens_remaining == DAY - 700
    assert (await pair[0].usage(user)).remaining == LIMIT - 2
    assert not await pair[0].admits(user, tokens=301)


async def test_tokens_of_one_key_alone_are_brought_back_once(
    fragile_redis: RedisServer, pair: list[Process], user: str
) -> None:
    assert await pair[0].admits(user, tokens=300)
    assert await pair[1].admits(user, tokens=400)
    fragile_redis.command("DEL", f"quota:{{{user}}}:requests")
    for process in pair:
        left = await process.usage(user)
    assert left.tokens_remaining == DAY - 700
    assert left.remaining == LIMIT - 2


async def test_what_was_given_back_is_not_missed(
    redis: RedisServer, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with contextlib.aclosing(Process(redis.url)) as process:
        receipts = [await process.admits(user, tokens=10) for _ in range(4)]
        first, second, third, fourth = filter(None, receipts)
        await process.refund(fourth)
        await process.refund(tokens_alone(third))
        await asyncio.gather(process.refund(second), process.refund(first), process.usage(user))
        left = await process.usage(user)
        assert (left.remaining, left.tokens_remaining) == (LIMIT - 1, DAY)
        assert process.losses == 0


async def test_what_is_being_decided_is_not_brought_back(
    fragile_redis: RedisServer, pair: list[Process], user: str
) -> None:
    """Twenty at once find the loss; only those that were admitted count in the end."""
    for _ in range(LIMIT // 2):
        assert await pair[0].admits(user)
    fragile_redis.command("FLUSHALL")
    after = await asyncio.gather(*(pair[0].admits(user) for _ in range(2 * LIMIT)))
    assert sum(map(bool, after)) == LIMIT - LIMIT // 2
    assert fragile_redis.command("ZCARD", f"quota:{{{user}}}:requests") == b":10\r\n"


async def test_a_redis_that_is_restarted_empty_counts_on(
    fragile_redis: RedisServer, pair: list[Process], user: str
) -> None:
    for process in pair:
        await process.start()
        for _ in range(LIMIT // 2):
            assert await process.admits(user)
    fragile_redis.kill()
    fragile_redis.start()
    await asyncio.sleep(2 * WATCHED_EVERY + 2.5)  # the breaker's pause
    assert [process.state for process in pair] == ["ok", "ok"]
    assert [await process.admits(user) for process in pair] == [None, None]


DENIALS = {
    "the script": ["-evalsha"],
    "a command within it": ["-zadd"],
    "the keys": ["resetkeys", "~other:*"],
    "everything": ["nocommands"],
}


@pytest.mark.parametrize("rules", DENIALS.values(), ids=list(DENIALS))
async def test_a_denial_is_a_failure_of_redis_and_says_what_to_allow(
    fragile_redis: RedisServer, user: str, rules: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    allowed = ["~quota:*", "~blocked_users", "+@read", "+@write", "+@scripting", "+time", "+info"]
    assert fragile_redis.command("ACL", "SETUSER", "counter", "on", ">secret", *allowed) == (
        b"+OK\r\n"
    )
    url = fragile_redis.url.replace("//", "//counter:secret@")
    async with contextlib.aclosing(Process(url)) as process:
        assert await process.ping()
        assert (await process.charge(user)).shared
        fragile_redis.command("ACL", "SETUSER", "counter", *rules)
        assert not (await process.charge(user)).shared
        assert process.state == "degraded"
        assert "redis_denied" in caplog.text
        assert "~quota:* ~blocked_users +@read +@write +@scripting +time +info" in caplog.text


@pytest.mark.parametrize(("policy", "warned"), [("allkeys-lru", True), ("noeviction", False)])
async def test_a_redis_that_may_evict_is_told_of_at_start(
    fragile_redis: RedisServer, caplog: pytest.LogCaptureFixture, policy: str, warned: bool
) -> None:
    fragile_redis.command("CONFIG", "SET", "maxmemory-policy", policy)
    caplog.set_level(logging.WARNING)
    async with contextlib.aclosing(Process(fragile_redis.url)) as process:
        assert await process.start()
        await process.ping()
        assert (f"redis_may_evict: with maxmemory-policy {policy}" in caplog.text) == warned
