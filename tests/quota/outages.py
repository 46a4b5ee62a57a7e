"""Outages of Redis, and callers during them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from errors import GateError
from lab.redis_server import RedisServer
from quota.breaker import Breaker
from quota.errors import QuotaExceeded, QuotaUnavailable
from quota.guarded import GuardedQuota, OnError
from quota.memory import MemoryQuota
from quota.receipt import Limits, Receipt
from quota.redis import RedisQuota

LIMIT = 10
WINDOW = 1.5  # seconds
CALLERS = 20
PAUSE = 0.3  # seconds the breaker stays open


Sabotage = Callable[[RedisServer], object]


@dataclass(frozen=True)
class Call:
    """One charge, as its caller saw it. Times are seconds of the local clock."""

    outcome: Receipt | GateError
    ended: float
    took: float


def guarded(
    url: str, *, on_error: OnError, limit: int = LIMIT, window: float = WINDOW
) -> GuardedQuota:
    limits = Limits(limit, window, None)
    return GuardedQuota(
        RedisQuota(url, limits),
        MemoryQuota(limits),
        on_error=on_error,
        breaker=Breaker(pause=PAUSE),
    )


async def one_call(quota: GuardedQuota, user: str) -> Call:
    began = time.time()
    try:
        outcome: Receipt | GateError = await quota.charge(user)
    except (QuotaExceeded, QuotaUnavailable) as error:
        outcome = error
    ended = time.time()
    return Call(outcome, ended, ended - began)


async def load(quota: GuardedQuota, user: str, *, stop: asyncio.Event) -> list[Call]:
    """Every call of CALLERS callers who ask again and again until `stop`."""
    calls: list[Call] = []

    async def ask() -> None:
        while not stop.is_set():
            calls.append(await one_call(quota, user))
            await asyncio.sleep(0.02)

    await asyncio.gather(*(ask() for _ in range(CALLERS)))
    return calls


async def load_through(
    quota: GuardedQuota,
    server: RedisServer,
    sabotage: Sabotage,
    repair: Sabotage,
    *,
    outage: float = 2.5,
) -> tuple[list[Call], list[Call]]:
    """All calls, and those that ended in the outage."""
    stop, user = asyncio.Event(), str(uuid.uuid4())
    running = asyncio.create_task(load(quota, user, stop=stop))
    await asyncio.sleep(0.7)
    await asyncio.to_thread(sabotage, server)
    broken = time.time()
    await asyncio.sleep(outage)
    mended = time.time()
    await asyncio.to_thread(repair, server)
    await asyncio.sleep(2 * PAUSE + 1.0)
    stop.set()
    calls = await running
    return calls, [call for call in calls if broken + 1 <= call.ended <= mended]


def admissions(calls: list[Call]) -> list[float]:
    return sorted(call.ended for call in calls if isinstance(call.outcome, Receipt))


def restart_empty(server: RedisServer) -> None:
    server.kill()
    server.start()


SABOTAGES: dict[str, tuple[Sabotage, Sabotage]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "restarted": (restart_empty, lambda _: None),
    "hung": (RedisServer.hang, RedisServer.wake),
    "slow": (
        lambda server: server.command("CLIENT", "PAUSE", "2400", "ALL"),
        lambda server: server.command("PING"),
    ),
    "readonly": (
        lambda server: server.command("REPLICAOF", "127.0.0.1", "1"),
        lambda server: server.command("REPLICAOF", "NO", "ONE"),
    ),
    "full": (
        lambda server: server.command("CONFIG", "SET", "maxmemory", "1"),
        lambda server: server.command("CONFIG", "SET", "maxmemory", "0"),
    ),
    "misconfigured": (
        lambda server: server.command("CONFIG", "SET", "min-replicas-to-write", "1"),
        lambda server: server.command("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}
