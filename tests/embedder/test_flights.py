"""One forward pass for the same text of many requests, each of which waits in its own turn."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.batcher import Answer, Batcher
from embedder.errors import EmbeddingFailedError
from embedder.fair_queue import FairQueue
from tests.embedder.test_batcher import FAILING, CountingEngine, batching, text

QUERY, QUERY_LENGTH = 7, 9


def key(first: int) -> bytes:
    return b"%d" % first


async def asked(
    batcher: Batcher, firsts: Sequence[int], *, user: str = "u", bulk: bool = False, length: int = 3
) -> "asyncio.Task[Answer]":
    """A request, once it waits for the engine or in the queue."""
    texts = [text(first, QUERY_LENGTH if first == QUERY else length) for first in firsts]
    call = batcher.answer(texts, [key(first) for first in firsts], user=user, bulk=bulk)
    task = asyncio.create_task(call)
    await asyncio.sleep(0.02)
    return task


def computed(engine: CountingEngine) -> int:
    return sum(map(len, engine.packs))


async def test_64_requests_with_one_new_text_cause_one_forward_pass() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        calls = [await asked(batcher, [7], user=str(number % 8)) for number in range(64)]
        engine.gate.set()
        answers = await asyncio.gather(*calls)
        assert all(answer.vectors[0, 0] == 7 for answer in answers)
        assert sum(len(answer.shared) for answer in answers) == 63
        assert batcher.admission.tokens == 0
    assert engine.packs == [[QUERY_LENGTH]]


async def test_a_text_without_a_key_is_shared_with_nobody() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        calls = [asyncio.create_task(batcher.run([text(7)], user="u")) for _ in range(3)]
        await asyncio.sleep(0.02)
        engine.gate.set()
        await asyncio.gather(*calls)
    assert computed(engine) == 3


@pytest.mark.parametrize("waits", [True, False])
async def test_a_cancelled_request_fails_nobody_who_waits_for_its_text(waits: bool) -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        running = [await asked(batcher, [1])] if waits else []
        first = await asked(batcher, [7])
        second = await asked(batcher, [7], user="v")
        first.cancel()
        await asyncio.sleep(0)
        engine.gate.set()
        assert (await second).vectors[0, 0] == 7
        assert (await second).shared == ([] if waits else [0])
        await asyncio.gather(*running)
        assert batcher.admission.tokens == 0
    assert computed(engine) == 1 + len(running)


async def test_a_text_of_a_bulk_job_is_computed_in_the_turn_of_a_query_that_has_it_too() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine, batch_tokens=10) as (batcher, _):
        await asked(batcher, [1], length=10)
        job = await asked(batcher, [*range(100, 120), QUERY], user="job", bulk=True, length=10)
        rest = await asked(batcher, range(200, 210), user="job", length=10)
        query = await asked(batcher, [QUERY], user="query")
        engine.gate.set()
        answers = await asyncio.gather(query, rest, job)
        assert [answer.shared for answer in answers] == [[], [], [20]]
        assert batcher.admission.tokens == 0
    assert engine.packs.index([QUERY_LENGTH]) <= 2  # after that in progress, and one of `rest`
    assert computed(engine) == 1 + 20 + 10 + 1


async def test_a_failing_text_fails_every_request_that_has_it_and_no_other() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine, batch_tokens=100) as (batcher, _):
        groups = ([FAILING], [2, FAILING], [2, 3])
        calls = [await asked(batcher, firsts, user=str(firsts)) for firsts in groups]
        engine.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [
            error.index if isinstance(error, EmbeddingFailedError) else None for error in answers
        ] == [0, 1, None]
        assert batcher.admission.tokens == 0
        with pytest.raises(EmbeddingFailedError):  # it is tried again
            await (await asked(batcher, [FAILING]))


async def test_what_was_computed_is_kept_once_for_the_user_in_whose_turn_it_was() -> None:
    kept: list[tuple[bytes, float, str]] = []
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(
        engine, keep=lambda key, row, user: kept.append((key, float(row[0]), user))
    ) as (batcher, _):
        first = await asked(batcher, [7], user="first")
        second = await asked(batcher, [7, FAILING], user="second")
        unnamed = asyncio.create_task(batcher.run([text(8)], user="third"))
        await asyncio.sleep(0.02)
        engine.gate.set()
        await asyncio.gather(first, second, unnamed, return_exceptions=True)
    assert kept == [(b"7", 7.0, "first")]


async def test_vectors_that_a_waiting_request_holds_count_in_the_queue() -> None:
    engine = CountingEngine()
    engine.gate.clear()
    async with batching(engine) as (batcher, _):
        call = asyncio.create_task(batcher.answer([text(1)], [key(1)], user="u", known=9))
        await asyncio.sleep(0.02)
        assert batcher.admission.tokens == 10 * 64
        engine.gate.set()
        await call
        assert batcher.admission.tokens == 0


def test_a_turn_that_is_taken_for_free_costs_its_user_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    for name, cost in (("a 1", 100), ("a 2", 10), ("b 1", 10), ("b 2", 10)):
        queue.push(name[0], name, cost)
    assert queue.pop(free=True) == "a 1"
    assert [queue.pop() for _ in range(3)] == ["b 1", "a 2", "b 2"]


requests = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.booleans(),  # bulk
        st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
        st.booleans(),  # cancelled
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(requests)
def test_every_request_gets_its_vectors_and_no_text_is_computed_twice(
    sent: list[tuple[str, bool, list[int], bool]],
) -> None:
    engine = CountingEngine()
    engine.gate.clear()

    async def scenario() -> None:
        async with batching(engine) as (batcher, _):
            calls = [
                asyncio.create_task(
                    batcher.answer(
                        [text(first) for first in firsts], list(map(key, firsts)), user=user,
                        bulk=bulk,
                    )
                )
                for user, bulk, firsts, _ in sent
            ]  # fmt: skip
            await asyncio.sleep(0)
            for call, (_, _, _, cancelled) in zip(calls, sent, strict=True):
                if cancelled:
                    call.cancel()
            engine.gate.set()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            own = Counter[int]()
            for answer, (_, _, firsts, cancelled) in zip(answers, sent, strict=True):
                if cancelled:
                    assert isinstance(answer, asyncio.CancelledError)
                    continue
                assert isinstance(answer, Answer)
                np.testing.assert_array_equal(answer.vectors[:, 0], firsts)
                own.update(set(firsts) - {firsts[index] for index in answer.shared})
            assert set(own.values()) <= {1}
            while batcher.admission.tokens:  # a forward pass that nobody waits for
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert computed(engine) <= len({first for _, _, firsts, _ in sent for first in firsts})
