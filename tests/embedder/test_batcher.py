"""The batcher, with an engine whose vectors identify their texts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.admission import Admission
from embedder.batcher import Batcher, Keep, PackReport
from embedder.errors import EmbeddingFailedError, UserQueueFullError
from embedder.postprocess import Vectors
from embedder.tokenized_text import TokenIds

FAILING, NOT_FINITE = 666, 777


class CountingEngine:
    """Vectors are (first token, length), NaN for NOT_FINITE. Raises for FAILING; can be paused."""

    kernel = "none"

    def __init__(self) -> None:
        self.packs: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        self.gate.wait(10)
        self.packs.append([len(ids) for ids in token_ids])
        if any(ids[0] == FAILING for ids in token_ids):
            raise RuntimeError("a failing text")
        return np.array(
            [[np.nan if ids[0] == NOT_FINITE else ids[0], len(ids)] for ids in token_ids],
            np.float32,
        )


def text(first: int, length: int = 3) -> TokenIds:
    return np.full(length, first, np.int64)


@asynccontextmanager
async def batching(
    engine: CountingEngine,
    *,
    batch_tokens: int = 16,
    batch_size: int = 8,
    user_tokens: int = 10_000,
    keep: Keep = lambda key, row, user: None,
) -> AsyncIterator[tuple[Batcher, list[PackReport]]]:
    reports: list[PackReport] = []
    batcher = Batcher(
        engine,
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        admission=Admission(user_tokens=user_tokens, total_tokens=10 * user_tokens),
        report=reports.append,
        keep=keep,
    )
    batcher.start()
    yield batcher, reports
    engine.gate.set()
    await batcher.close()


async def sent(*calls: Coroutine[Any, Any, Vectors]) -> list[asyncio.Task[Vectors]]:
    """Start calls, and let them proceed until they wait for the engine or in the queue."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0.02)
    return tasks


requests = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 40), min_size=1, max_size=6)),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(requests)
def test_every_caller_gets_its_own_vectors_in_order(callers: list[tuple[str, list[int]]]) -> None:
    engine = CountingEngine()

    async def scenario() -> None:
        async with batching(engine) as (batcher, reports):
            calls = [
                batcher.run(
                    [text(100 * number + index, n) for index, n in enumerate(lengths)], user=user
                )
                for number, (user, lengths) in enumerate(callers)
            ]
            for number, vectors in enumerate(await asyncio.gather(*calls)):
                lengths = callers[number][1]
                expected = [[100 * number + index, n] for index, n in enumerate(lengths)]
                np.testing.assert_array_equal(vectors, np.array(expected, np.float32))
            assert batcher.admission.tokens == 0
            assert sum(report.texts for report in reports) == sum(
                len(lengths) for _, lengths in callers
            )

    asyncio.run(scenario())
    for pack in engine.packs:
        assert len(pack) == 1 or (sum(pack) <= 16 and len(pack) <= 8)


async def test_an_idle_engine_starts_at_once_and_a_busy_one_batches() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        [first] = await sent(batcher.run([text(0)], user="0"))
        rest = await sent(*(batcher.run([text(i)], user=str(i)) for i in range(1, 6)))
        engine.gate.set()
        await asyncio.gather(first, *rest)
    assert engine.packs == [[3], [3] * 5]


async def test_one_short_text_overtakes_another_users_batch() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        [bulk] = await sent(batcher.run([text(1, 10)] * 50, user="bulk"))
        [single] = await sent(batcher.run([text(2, 9)], user="single"))
        engine.gate.set()
        await asyncio.gather(bulk, single)
    assert engine.packs.index([9]) <= 2  # after the one in progress, and at most one more


async def test_small_requests_share_a_pack_that_no_batch_fills_up() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        [bulk] = await sent(batcher.run([text(1, 8)] * 20, user="bulk"))
        singles = await sent(
            *(batcher.run([text(2, 2)], user=f"single {number}") for number in range(3))
        )
        engine.gate.set()
        await asyncio.gather(bulk, *singles)
    assert [2, 2, 2] in engine.packs  # one more text of the batch would have fitted


async def test_waiting_texts_of_a_cancelled_call_are_dropped() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, reports):
        [first] = await sent(batcher.run([text(1)], user="a"))
        [cancelled] = await sent(batcher.run([text(2)] * 100, user="b"))
        cancelled.cancel()
        await asyncio.sleep(0)
        engine.gate.set()
        await first
        await batcher.run([text(3)], user="c")
        assert sum(report.texts for report in reports) == 2
        assert batcher.admission.tokens == 0


@pytest.mark.parametrize("bad", [FAILING, NOT_FINITE])
async def test_a_failing_text_fails_only_its_own_request(bad: int) -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine, batch_tokens=100) as (batcher, _):
        groups = ([1], [2, 3], [4, bad, 5], [6])
        calls = await sent(
            *(batcher.run([text(first) for first in firsts], user="a") for firsts in groups)
        )
        engine.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(answer, EmbeddingFailedError) for answer in answers] == [
            False,
            False,
            True,
            False,
        ]
        error = answers[2]
        assert isinstance(error, EmbeddingFailedError)
        assert error.index == 1
        assert (await batcher.run([text(7)], user="a"))[0, 0] == 7


async def test_running_texts_count_until_they_are_delivered() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine, user_tokens=200) as (batcher, _):
        calls = await sent(batcher.run([text(1, 100)], user="a"))
        calls += await sent(batcher.run([text(2, 100)], user="a"))
        assert batcher.admission.tokens == 200  # one runs, one waits
        with pytest.raises(UserQueueFullError):
            await batcher.run([text(3)], user="a")
        calls += await sent(batcher.run([text(4)], user="b"))
        engine.gate.set()
        await asyncio.gather(*calls)
        assert batcher.admission.tokens == 0
        await batcher.run([text(3)], user="a")


@pytest.mark.parametrize("bad", [FAILING, None])
async def test_failed_and_cancelled_requests_do_not_count_any_more(bad: int | None) -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine, batch_tokens=3) as (batcher, _):
        calls = await sent(batcher.run([text(bad or 1), *[text(2)] * 20], user="a"))
        if bad is None:
            calls[0].cancel()
        engine.gate.set()
        await asyncio.gather(*calls, return_exceptions=True)
        await batcher.run([text(3)], user="b")  # after the pass that was in progress
        assert batcher.admission.tokens == 0


async def test_a_forward_pass_in_progress_is_visible() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        assert batcher.running_since is None
        [call] = await sent(batcher.run([text(1)], user="a"))
        assert batcher.running_since is not None
        engine.gate.set()
        await call
        assert batcher.running_since is None
