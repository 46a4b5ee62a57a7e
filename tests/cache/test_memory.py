"""The cache in memory: bounded in real bytes, and fair between users."""

import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.memory import ENTRY_BYTES, USER_BYTES, MemoryCache

VALUE = 64
ENTRY = VALUE + ENTRY_BYTES


def cache_of(entries: int, *, users: int = 1) -> MemoryCache:
    return MemoryCache(entries * ENTRY + users * USER_BYTES, value_bytes=VALUE)


def fill(cache: MemoryCache, user: str, numbers: range) -> None:
    for number in numbers:
        cache.put(f"{user} {number}".encode(), bytes(VALUE), user=user)


def held(cache: MemoryCache, user: str, numbers: range) -> list[int]:
    return [number for number in numbers if cache.get(f"{user} {number}".encode()) is not None]


def test_what_was_put_is_found() -> None:
    cache = cache_of(2)
    assert cache.put(b"a", b"1" * VALUE, user="u")
    assert not cache.put(b"a", b"2" * VALUE, user="u")
    assert cache.get(b"a") == b"1" * VALUE
    assert cache.get(b"b") is None


def test_what_was_used_least_recently_leaves_first() -> None:
    evicted: list[int] = []
    cache = MemoryCache(3 * ENTRY + USER_BYTES, value_bytes=VALUE, report_evictions=evicted.append)
    fill(cache, "u", range(3))
    cache.get(b"u 0")
    fill(cache, "u", range(3, 5))
    assert held(cache, "u", range(5)) == [0, 3, 4]
    assert sum(evicted) == 2


def test_a_flood_evicts_only_what_is_its_own() -> None:
    cache = cache_of(100, users=2)
    fill(cache, "flood", range(60))
    fill(cache, "quiet", range(40))
    fill(cache, "flood", range(60, 10_000))
    assert held(cache, "quiet", range(40)) == list(range(40))
    assert len(held(cache, "flood", range(10_000))) == 60


def test_a_newcomer_gets_an_equal_share_of_a_full_cache() -> None:
    cache = cache_of(100, users=2)
    fill(cache, "first", range(1000))
    fill(cache, "second", range(1000))
    assert len(held(cache, "first", range(1000))) in (50, 51)


def test_many_users_with_one_vector_each_are_within_the_limit_too() -> None:
    cache = cache_of(50)
    for number in range(1000):
        fill(cache, f"user {number}", range(1))
        assert cache.used_bytes <= 50 * ENTRY + USER_BYTES


def test_without_space_nothing_is_kept() -> None:
    cache = MemoryCache(0, value_bytes=VALUE)
    fill(cache, "u", range(10))
    assert (len(cache), cache.used_bytes) == (0, 0)


steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.booleans()), max_size=200)


@given(steps, st.integers(0, 8))
def test_counts_stay_exact_whatever_happens(
    steps: list[tuple[str, int, bool]], entries: int
) -> None:
    cache = cache_of(entries)
    for user, number, put in steps:
        key = f"{user} {number}".encode()
        if put:
            cache.put(key, bytes(VALUE), user=user)
        else:
            cache.get(key)
        counts = [len(held(cache, user, range(13))) for user in "abc"]
        assert sum(counts) == len(cache) <= entries
        assert cache.used_bytes == len(cache) * ENTRY + sum(map(bool, counts)) * USER_BYTES


@pytest.mark.parametrize(("users", "each"), [(1, 5000), (1, 700), (2500, 1), (50, 40)])
def test_no_more_memory_is_taken_than_is_counted(users: int, each: int) -> None:
    size = 1536
    cache = MemoryCache(10**9, value_bytes=size)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for user in range(users):
        for _ in range(each):
            cache.put(os.urandom(16), os.urandom(size), user=f"6f1c1c86-6d3c-4c8a-9d0b-{user:012}")
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    headers = 16 * len(cache)  # of malloc, which tracemalloc does not see
    assert 0.6 * cache.used_bytes < taken + headers <= cache.used_bytes
