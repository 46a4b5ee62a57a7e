"""Vectors in a real Redis: shared, bounded, sealed; and a slow or dead Redis has none."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from redis.asyncio import Redis

from cache.keys import Keys
from cache.shared import AT_ONCE, ENTRY_BYTES, MAX_WAITING, READ_TIMEOUT, SharedCache
from lab.redis_server import RedisServer
from tests.quota.delaying_proxy import DelayingProxy

SIZE = 1536
ENTRY = SIZE + ENTRY_BYTES
KEYS = Keys(b"s" * 32, scope="user")
Make = Callable[..., SharedCache]


class Failures:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
async def make(redis: RedisServer) -> AsyncIterator[Make]:
    made: list[SharedCache] = []
    space = str(uuid.uuid4())

    def cache(
        url: str = redis.url,
        *,
        entries: int = 1000,
        keys: Keys = KEYS,
        ttl: int = 60,
        read_timeout: float = 10.0,  # this machine may be busy
        failures: Callable[[], None] = lambda: None,
    ) -> SharedCache:
        made.append(
            SharedCache(
                url,
                keys=keys,
                space=space,
                limit=entries * ENTRY,
                ttl=ttl,
                value_bytes=SIZE,
                read_timeout=read_timeout,
                report_failure=failures,
            )
        )
        return made[-1]

    yield cache
    for each in made:
        await each.aclose()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def value(number: int) -> bytes:
    return number.to_bytes(SIZE, "big")


async def store(cache: SharedCache, numbers: range, user: str = "u") -> None:
    for number in numbers:
        cache.store(key(number), value(number), user=user)
    await cache.flush()


async def found(cache: SharedCache, numbers: range) -> list[int]:
    values = await cache.find([key(number) for number in numbers])
    assert all(values[key(n)] == value(n) for n in numbers if key(n) in values)
    return [number for number in numbers if key(number) in values]


async def test_what_one_process_stores_another_finds(make: Make) -> None:
    await store(make(), range(3))
    assert await found(make(), range(5)) == [0, 1, 2]


async def test_a_vector_is_kept_for_its_time_to_live(make: Make) -> None:
    await store(make(ttl=1), range(3))
    await store(make(ttl=60), range(3, 6))
    await asyncio.sleep(1.1)
    assert await found(make(), range(6)) == [3, 4, 5]


async def test_a_vector_that_another_secret_sealed_is_not_given_out(make: Make) -> None:
    await store(make(), range(3))
    other = make(keys=Keys(b"t" * 32, scope="user"))
    assert await found(other, range(3)) == []


async def test_a_full_cache_loses_what_the_largest_user_stored_first(make: Make) -> None:
    cache = make(entries=100)
    await store(cache, range(1000, 1040), "quiet")
    await store(cache, range(500), "flood")
    assert await found(cache, range(1000, 1040)) == list(range(1000, 1040))
    assert await found(cache, range(500)) == list(range(440, 500))


@pytest.mark.parametrize("other", ["first", "second"])
async def test_a_vector_that_two_processes_store_counts_once(make: Make, other: str) -> None:
    """With CACHE_SCOPE=all they may have computed it for two users."""
    one, two = make(entries=100), make(entries=100)
    await store(one, range(60), "first")
    await store(two, range(60), other)
    await store(two, range(1000, 1040), other)
    assert await found(one, range(60)) == list(range(60))
    assert await found(one, range(1000, 1040)) == list(range(1000, 1040))
    await store(two, range(2000, 2001), "third")
    assert len(await found(one, range(2001))) == 100


async def test_vectors_that_expired_make_room(make: Make) -> None:
    await store(make(entries=100, ttl=1), range(100), "flood")
    await asyncio.sleep(1.1)
    cache = make(entries=100)
    await store(cache, range(1000, 1090), "other")
    assert await found(cache, range(1000, 1090)) == list(range(1000, 1090))


async def test_redis_takes_no_more_memory_than_was_allowed(
    fragile_redis: RedisServer, make: Make
) -> None:
    cache = make(fragile_redis.url, entries=2000)
    async with Redis.from_url(fragile_redis.url) as client:
        await store(cache, range(1), "user 0")
        before = (await client.info("memory"))["used_memory"]
        for user in range(30):
            await store(cache, range(100 * user, 100 * user + 100), f"user {user}")
        taken = (await client.info("memory"))["used_memory"] - before
        assert 0.8 * 2000 * ENTRY < taken < 2000 * ENTRY
        texts = await client.dbsize()
        assert texts <= 2000 + 30 + 2


async def test_a_dead_redis_is_a_miss_and_is_counted(
    fragile_redis: RedisServer, make: Make
) -> None:
    failures = Failures()
    cache = make(fragile_redis.url, failures=failures)
    fragile_redis.kill()
    assert await cache.find([key(1)]) == {}
    await store(cache, range(1))
    assert failures.count == 2
    fragile_redis.start()
    await asyncio.sleep(2.1)  # longer than the breaker's pause, if it is open
    await store(cache, range(1))
    assert await found(cache, range(1)) == [0]


async def test_a_denial_is_a_miss_and_says_what_to_allow(
    fragile_redis: RedisServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = ["~vectors:*", "+@read", "+@write", "+@scripting", "+time"]
    fragile_redis.command("ACL", "SETUSER", "keeper", "on", ">secret", *allowed)
    cache = make(fragile_redis.url.replace("//", "//keeper:secret@"))
    await store(cache, range(1))
    assert await found(cache, range(1)) == [0]
    fragile_redis.command("ACL", "SETUSER", "keeper", "resetkeys", "~quota:*")
    assert await found(cache, range(1)) == []
    assert "~vectors:* +@read +@write +@scripting +time" in caplog.text


async def test_a_hanging_redis_costs_milliseconds_and_then_nothing(
    fragile_redis: RedisServer, make: Make
) -> None:
    failures = Failures()
    cache = make(fragile_redis.url, failures=failures, read_timeout=READ_TIMEOUT)
    await store(cache, range(1))
    fragile_redis.hang()
    waited = 0.0
    for _ in range(20):
        started = time.monotonic()
        assert await cache.find([key(0)] * (3 * AT_ONCE)) == {}
        waited += time.monotonic() - started
    assert 3 <= failures.count < 10  # then it is not asked for a while
    assert waited < 4  # with the timeout of the quotas it would be 5 seconds at least
    fragile_redis.wake()


async def test_a_redis_that_is_too_far_away_is_a_miss(make: Make, redis: RedisServer) -> None:
    async with DelayingProxy(redis.port, seconds=10 * READ_TIMEOUT) as port:
        far = make(f"redis://127.0.0.1:{port}", read_timeout=READ_TIMEOUT)
        await store(far, range(1))
        assert await far.find([key(0)]) == {}
        await far.aclose()
    assert await found(make(), range(1)) == [0]


async def test_no_more_vectors_wait_to_be_stored_than_memory_is_set_aside_for(
    fragile_redis: RedisServer, make: Make
) -> None:
    cache = make(fragile_redis.url)
    fragile_redis.hang()
    for number in range(3 * MAX_WAITING // SIZE):
        cache.store(key(number), value(number), user="u")
    assert cache.waiting * SIZE <= MAX_WAITING + SIZE
    fragile_redis.wake()


async def test_what_is_stored_names_neither_texts_nor_users(
    fragile_redis: RedisServer, make: Make
) -> None:
    user = str(uuid.uuid4())
    cache = make(fragile_redis.url)
    [name] = KEYS.of([np.array([1, 2, 3], np.int32)], user=user)
    cache.store(name, os.urandom(SIZE), user=user)
    await cache.flush()
    async with Redis.from_url(fragile_redis.url) as client:
        names = [key.decode() async for key in client.scan_iter("*")]
    assert len(names) == 4
    assert not [each for each in names if user in each]


async def test_after_a_lower_limit_redis_evicts_in_steps(make: Make, redis: RedisServer) -> None:
    for user in range(3):
        await store(make(entries=900), range(user * 300, (user + 1) * 300), user=f"user {user}")
    cut = make(entries=100)
    left = [900]
    async with Redis.from_url(redis.url) as client:
        [count] = [name async for name in client.scan_iter(f"{cut._prefix}count")]
        for number in range(1_000, 1_005):
            await store(cut, range(number, number + 1), user="another")
            left.append(int(await client.get(count) or 0))
    assert left == [900, 645, 390, 135, 100, 100]
