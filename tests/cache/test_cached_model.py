"""Lookups before a charge, and what is computed after it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from cache.cache import Cache
from cache.cached_model import CachedModel, Lookup, Origins
from cache.keys import Keys, Scope
from cache.memory import MemoryCache
from cache.values import Values
from embedder.batcher import Batcher
from embedder.errors import EmbeddingFailedError
from embedder.overflow import average
from embedder.postprocess import Vectors
from embedder.tokenized_text import TokenizedText
from tests.embedder.test_batcher import FAILING, CountingEngine, batching, text

VALUES = Values("float32", 2)


class Served:
    """A batcher as a served model has one."""

    def __init__(self, batcher: Batcher) -> None:
        self.answer = batcher.answer

    def require_size(self, texts: Sequence[TokenizedText]) -> None:
        """Any size fits."""


def short(first: int) -> TokenizedText:
    """In one window."""
    return TokenizedText(text(first), 3, False)


def long(firsts: Sequence[int]) -> TokenizedText:
    """In windows of three tokens, the first of which each window has."""
    ids = np.concatenate([text(first) for first in firsts])
    return TokenizedText(ids, len(ids), False, window=3, repeated=1)


@dataclass
class Cached:
    """A cached model, its engine, and what it reported."""

    model: CachedModel
    engine: CountingEngine
    reports: list[Origins] = field(default_factory=list)

    async def look_up(self, firsts: Sequence[int], user: str = "u", store: bool = True) -> Lookup:
        return await self.model.look_up(list(map(short, firsts)), user=user, store=store)

    async def embed(self, firsts: Sequence[int], user: str = "u", store: bool = True) -> Vectors:
        lookup = await self.look_up(firsts, user, store)
        vectors, _ = await self.model.complete(lookup)
        assert list(vectors[:, 0]) == list(firsts)
        return vectors

    @property
    def computed(self) -> int:
        """Texts."""
        return sum(map(len, self.engine.packs))


@asynccontextmanager
async def cached(
    *, scope: Scope = "user", enabled: bool = True, limit: int = 10**6
) -> AsyncIterator[Cached]:
    engine = CountingEngine()
    memory = MemoryCache(limit, value_bytes=VALUES.size)
    cache = Cache(keys=Keys(b"s" * 32, scope=scope), values=VALUES, memory=memory)
    async with batching(engine, keep=cache.keep) as (batcher, _):
        reports: list[Origins] = []
        model = CachedModel(
            cast(Any, Served(batcher)), cache, enabled=enabled, report=reports.append
        )
        yield Cached(model, engine, reports)


async def test_a_text_that_was_embedded_before_is_not_computed_and_has_the_same_bits() -> None:
    async with cached() as it:
        first = await it.embed([1, 2])
        assert (await it.look_up([1, 2])).missing_tokens == 0
        again = await it.embed([2, 1])
        assert again.tobytes() == first[::-1].tobytes()
        assert it.computed == 2
        assert it.reports == [Origins(computed=2), Origins(memory=2)]


async def test_a_text_that_repeats_in_a_request_is_computed_and_charged_once() -> None:
    async with cached() as it:
        assert (await it.look_up([5, 5, 6, 5])).missing_tokens == 2 * 3
        await it.embed([5, 5, 6, 5])
        assert it.computed == 2
        assert it.reports == [Origins(repeated=2, computed=2)]


async def test_found_and_missing_texts_come_back_in_order() -> None:
    async with cached() as it:
        await it.embed([1, 3])
        await it.embed([0, 1, 2, 3, 2, 4])
        assert it.reports[1] == Origins(memory=2, repeated=1, computed=3)


@pytest.mark.parametrize(("scope", "found"), [("user", 0), ("all", 1)])
async def test_users_find_each_others_texts_only_where_the_scope_says_so(
    scope: Scope, found: int
) -> None:
    async with cached(scope=scope) as it:
        await it.embed([1], user="u")
        await it.embed([1], user="v")
        assert it.reports[1].memory == found
        assert it.computed == 2 - found


@pytest.mark.parametrize("scope", ["user", "all"])
async def test_64_requests_with_one_new_text_are_charged_for_it_once(scope: Scope) -> None:
    async with cached(scope=scope) as it:
        lookups = [await it.look_up([1]) for _ in range(64)]  # then all are charged
        done = await asyncio.gather(*(it.model.complete(lookup) for lookup in lookups))
        assert it.computed == 1
        assert sum(lookup.missing_tokens for lookup in lookups) - sum(s for _, s in done) == 3
        assert sum(report.in_flight for report in it.reports) == 63


async def test_a_text_that_was_embedded_during_the_charge_is_spared() -> None:
    async with cached() as it:
        lookup = await it.look_up([1, 2])
        await it.embed([1])
        vectors, spared = await it.model.complete(lookup)
        assert (list(vectors[:, 0]), spared, it.computed) == ([1, 2], 3, 2)


async def test_a_request_that_is_not_to_be_stored_finds_leaves_and_shares_nothing() -> None:
    async with cached() as it:
        await it.embed([1])
        await it.embed([1, 1], store=False)
        await it.embed([2], store=False)
        assert it.computed == 4
        await it.embed([2])
        assert it.computed == 5


async def test_a_cache_that_is_off_computes_every_text() -> None:
    async with cached(enabled=False) as it:
        await it.embed([1, 1])
        await it.embed([1])
        assert (it.computed, it.reports) == (3, [])


async def test_what_was_found_is_answered_even_if_it_is_evicted_meanwhile() -> None:
    async with cached(limit=3_000) as it:
        await it.embed([1])
        lookup = await it.look_up([1])
        for other in range(10, 30):
            await it.embed([other])
        assert (await it.look_up([1])).missing_tokens == 3
        vectors, _ = await it.model.complete(lookup)
        np.testing.assert_array_equal(vectors, [[1, 3]])


async def test_the_vector_of_a_request_that_was_cancelled_is_kept() -> None:
    """Its tokens were charged."""
    async with cached() as it:
        it.engine.gate.clear()
        call = asyncio.create_task(it.embed([1]))
        await asyncio.sleep(0.02)
        call.cancel()
        it.engine.gate.set()
        await it.embed([2])
        await it.embed([1])
        assert it.computed == 2


async def test_a_failure_names_the_text_and_is_not_kept() -> None:
    async with cached() as it:
        await it.embed([1])
        for _ in range(2):
            with pytest.raises(EmbeddingFailedError) as failed:
                await it.embed([1, 1, 2, FAILING])
            assert failed.value.index == 3


async def test_windows_of_a_long_text_are_kept_one_by_one_and_averaged() -> None:
    async with cached() as it:
        await it.embed([1])
        lookup = await it.model.look_up([short(5), long([1, 2, 3, 2])], user="u")
        assert lookup.missing_tokens == 3 * 3
        vectors, spared = await it.model.complete(lookup)
        assert spared == 0
        assert it.reports[1] == Origins(memory=1, repeated=1, computed=3)
        mean = np.array([2.0, 3.0]) / np.hypot(2.0, 3.0)
        np.testing.assert_allclose(vectors, [[5, 3], mean], rtol=1e-6)


async def test_a_failing_window_names_its_text() -> None:
    async with cached() as it:
        texts = [long([1, 2]), short(3), long([4, FAILING, 5]), short(6)]
        with pytest.raises(EmbeddingFailedError) as failed:
            await it.model.complete(await it.model.look_up(texts, user="u"))
        assert failed.value.index == 2


async def test_averaging_many_windows_does_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop_may_run = threading.Event()

    def slow(vectors: Vectors, weights: Sequence[Sequence[int]]) -> Vectors:
        assert loop_may_run.wait(5)
        return average(vectors, weights)

    monkeypatch.setattr("cache.cached_model.average", slow)
    async with cached() as it:
        texts = [long([first, first + 1]) for first in range(100, 200, 2)]
        lookup = await it.model.look_up(texts, user="u")
        waiting = asyncio.create_task(it.model.complete(lookup))
        while not it.reports and not waiting.done():
            await asyncio.sleep(0)
        loop_may_run.set()
        vectors, _ = await waiting
    assert vectors.shape == (50, 2)
