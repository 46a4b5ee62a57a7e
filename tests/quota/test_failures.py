"""Redis fails in every way it can; callers are answered and limits hold."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

import pytest

from lab.redis_server import RedisServer
from quota.breaker import Breaker
from quota.errors import QuotaExceeded, QuotaUnavailable
from quota.guarded import GuardedQuota
from quota.memory import MemoryQuota
from quota.receipt import Limits, Receipt
from quota.redis import RedisQuota
from tests.quota.delaying_proxy import DelayingProxy
from tests.quota.outages import (
    LIMIT,
    PAUSE,
    SABOTAGES,
    WINDOW,
    Sabotage,
    admissions,
    guarded,
    load_through,
    one_call,
)

pytestmark = pytest.mark.alone  # Redis has 250 ms to answer, or a hung one is not told from it
BOUND = 5.0  # seconds in which a call is answered, however busy the machine is


@pytest.mark.parametrize(("sabotage", "repair"), SABOTAGES.values(), ids=list(SABOTAGES))
async def test_local_count_takes_over_and_hands_back(
    fragile_redis: RedisServer, sabotage: Sabotage, repair: Sabotage
) -> None:
    async with contextlib.aclosing(guarded(fragile_redis.url, on_error="local")) as quota:
        assert await quota.start()
        calls, in_outage = await load_through(quota, fragile_redis, sabotage, repair)
        recovered = await one_call(quota, str(uuid.uuid4()))
        assert quota.state == "ok"

    assert max(call.took for call in calls) < BOUND
    assert all(isinstance(call.outcome, Receipt | QuotaExceeded) for call in calls)
    times = admissions(calls)
    spans = [later - earlier for earlier, later in zip(times, times[LIMIT:], strict=False)]
    assert min(spans) > WINDOW - 0.02  # not one too many, whatever Redis forgot
    assert admissions(in_outage) or len(in_outage) > 20, "nobody was answered in the outage"
    assert isinstance(recovered.outcome, Receipt)
    assert recovered.outcome.shared


async def test_answers_that_take_300_ms_are_not_waited_for(fragile_redis: RedisServer) -> None:
    """Each answer takes 300 ms, more than the timeout of 250, so the counts in memory are used."""
    async with DelayingProxy(fragile_redis.port, seconds=0.3) as port:
        slow = guarded(f"redis://127.0.0.1:{port}", on_error="local", limit=10_000)
        calls = [await one_call(slow, "user") for _ in range(6)]
        assert max(call.took for call in calls) < BOUND
        assert all(isinstance(call.outcome, Receipt) for call in calls)
        assert max(call.took for call in calls[3:]) < 0.05
        assert slow.state == "degraded"
        await slow.aclose()


async def test_closed_refuses_while_redis_is_away(fragile_redis: RedisServer) -> None:
    quota = guarded(fragile_redis.url, on_error="closed")
    calls, in_outage = await load_through(quota, fragile_redis, RedisServer.kill, RedisServer.start)
    assert max(call.took for call in calls) < BOUND
    assert {type(call.outcome) for call in in_outage} <= {QuotaUnavailable, QuotaExceeded}
    assert any(isinstance(call.outcome, QuotaUnavailable) for call in in_outage)
    assert isinstance((await one_call(quota, str(uuid.uuid4()))).outcome, Receipt)
    fragile_redis.kill()
    with pytest.raises(QuotaUnavailable):
        await quota.charge(str(uuid.uuid4()))
    with pytest.raises(QuotaUnavailable):
        await quota.usage("anybody")
    await quota.aclose()


async def test_open_admits_everybody_while_redis_is_away(fragile_redis: RedisServer) -> None:
    quota = guarded(fragile_redis.url, on_error="open")
    calls, in_outage = await load_through(quota, fragile_redis, RedisServer.kill, RedisServer.start)
    assert max(call.took for call in calls) < BOUND
    assert in_outage
    assert all(isinstance(call.outcome, Receipt) for call in in_outage)
    await quota.aclose()


async def test_redis_that_is_away_at_start_is_found_later(fragile_redis: RedisServer) -> None:
    fragile_redis.kill()
    quota = guarded(fragile_redis.url, on_error="local")
    assert not await quota.start()
    states = [quota.state]
    assert isinstance((await one_call(quota, "user")).outcome, Receipt)
    fragile_redis.start()
    await asyncio.sleep(PAUSE)
    assert await quota.ping()
    states.append(quota.state)
    assert states == ["degraded", "ok"]
    await quota.aclose()


async def test_ping_finds_out_a_redis_that_cannot_write(fragile_redis: RedisServer) -> None:
    quota = guarded(fragile_redis.url, on_error="local")
    fragile_redis.command("REPLICAOF", "127.0.0.1", "1")
    assert not await quota.ping()
    await quota.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b":not-a-number\r\n",
        b"$-7\r\n",
        b"*1\r\n",
        b"\xff\xfe\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b"*1\r\n:1\r\n",
        b"*5\r\n:9\r\n:9\r\n:9\r\n:9\r\n:9\r\n",
        b"",
    ],
)
async def test_server_that_is_no_redis_is_a_failure_like_any_other(answer: bytes) -> None:
    connections: set[asyncio.Task[None] | None] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            while answer and (data := await reader.read(65_536)):
                writer.write(answer * (data.count(b"\r\n*") + 1))
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        quota = guarded(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", on_error="local")
        for _ in range(5):
            call = await one_call(quota, str(uuid.uuid4()))
            assert isinstance(call.outcome, Receipt)
            assert call.took < BOUND
        assert quota.state == "degraded"
        await quota.aclose()
        await asyncio.gather(*filter(None, connections))


async def test_wrong_password_is_a_failure_like_any_other(fragile_redis: RedisServer) -> None:
    fragile_redis.command("CONFIG", "SET", "requirepass", "secret")
    quota = guarded(fragile_redis.url, on_error="local")
    assert not await quota.start()
    assert isinstance((await one_call(quota, "user")).outcome, Receipt)
    await quota.aclose()


async def test_full_redis_goes_on_counting(fragile_redis: RedisServer) -> None:
    """The script frees what is old before it adds, so the memory limit does not stop it."""
    quota = guarded(fragile_redis.url, on_error="closed", limit=3, window=60.0)
    await quota.start()
    fragile_redis.command("CONFIG", "SET", "maxmemory", "1")
    assert fragile_redis.command("SET", "key", "value").startswith(b"-OOM")
    assert [(await quota.charge("user")).remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(QuotaExceeded):
        await quota.charge("user")
    assert quota.state == "ok"
    await quota.aclose()


async def test_refund_never_raises_and_never_waits_long(fragile_redis: RedisServer) -> None:
    quota = guarded(fragile_redis.url, on_error="local", limit=1)
    receipt = await quota.charge("user")
    fragile_redis.hang()
    began = time.perf_counter()
    await quota.refund(receipt)
    assert time.perf_counter() - began < BOUND
    await quota.aclose()


async def test_what_was_counted_in_memory_is_refunded_in_memory_alone(
    fragile_redis: RedisServer,
) -> None:
    """Redis has not charged it, so it must not refund it."""
    limits = Limits(5, 60.0, 100)
    shared = RedisQuota(fragile_redis.url, limits)
    quota = GuardedQuota(
        shared, MemoryQuota(limits), on_error="local", breaker=Breaker(pause=PAUSE)
    )
    await quota.spend(await quota.charge("user"), tokens=10)
    before = await quota.charge("user")
    fragile_redis.command("CONFIG", "SET", "min-replicas-to-write", "1")
    begun_before = await quota.spend(before, tokens=20)
    begun_after = await quota.spend(await quota.charge("user"), tokens=30)
    assert (begun_before.shared, begun_before.spent.shared) == (True, False)
    assert (begun_after.shared, begun_after.spent.shared) == (False, False)
    assert begun_after.tokens_remaining == 40
    fragile_redis.command("CONFIG", "SET", "min-replicas-to-write", "0")
    await asyncio.sleep(PAUSE)
    await quota.refund(begun_before)
    assert (await quota.refund(begun_after)).tokens_remaining == 90
    usage = await shared.usage("user")
    assert (usage.remaining, usage.tokens_remaining) == (4, 90)
    await quota.aclose()


async def test_closed_refuses_tokens_that_cannot_be_counted(fragile_redis: RedisServer) -> None:
    limits = Limits(5, 60.0, 100)
    local = MemoryQuota(limits)
    quota = GuardedQuota(
        RedisQuota(fragile_redis.url, limits), local, on_error="closed", breaker=Breaker()
    )
    receipt = await quota.charge("user")
    fragile_redis.kill()
    with pytest.raises(QuotaUnavailable):
        await quota.spend(receipt, tokens=10)
    assert (await local.usage("user")).tokens_remaining == 100
    await quota.refund(receipt)
    assert (await local.usage("user")).remaining == 5
    await quota.aclose()


async def test_cancelled_call_leaves_the_connections_in_order(redis: RedisServer) -> None:
    """A caller that disconnects must not leave its answer to the next one."""
    quota = guarded(redis.url, on_error="local", limit=100_000, window=60.0)
    users = [str(uuid.uuid4()) for _ in range(200)]
    tasks = [asyncio.create_task(quota.charge(user)) for user in users]
    for delay, task in enumerate(tasks[::2]):
        asyncio.get_running_loop().call_later(delay * 0.0002, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    for user in users[1::2]:
        assert (await quota.usage(user)).remaining == 100_000 - 1
    assert quota.state == "ok"
    await quota.aclose()
