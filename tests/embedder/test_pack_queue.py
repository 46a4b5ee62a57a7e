"""Which texts go next: those of users, and bulk from what is left."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from embedder.pack_queue import BULK_EVERY, Flight, Job, PackQueue, Text

LENGTH = 8  # tokens of every text here; a pack has room for two


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def queue() -> PackQueue:
    return PackQueue(batch_tokens=2 * LENGTH, batch_size=8)


def push(
    queue: PackQueue, loop: asyncio.AbstractEventLoop, user: str, texts: int, *, bulk: bool = False
) -> Job:
    job = Job(user, texts, True, bulk, loop.create_future())
    flights = [Flight(np.zeros(LENGTH, np.int64), None) for _ in range(texts)]
    queue.push([Text(job, index, flight) for index, flight in enumerate(flights)])
    return job


def packs(queue: PackQueue, most: int) -> list[str]:
    """The users of the next packs, one letter per text."""
    taken = (queue.take() for _ in range(most))
    return ["".join(text.job.user for text in pack) for pack in taken]


def test_bulk_waits_until_nothing_else_does(
    queue: PackQueue, loop: asyncio.AbstractEventLoop
) -> None:
    push(queue, loop, "b", 4, bulk=True)
    push(queue, loop, "u", 4)
    assert packs(queue, 5) == ["uu", "uu", "bb", "bb", ""]


def test_bulk_shares_no_pack_with_others(queue: PackQueue, loop: asyncio.AbstractEventLoop) -> None:
    push(queue, loop, "b", 2, bulk=True)
    push(queue, loop, "u", 1)
    assert packs(queue, 2) == ["u", "bb"]


def test_bulk_goes_on_under_any_load(queue: PackQueue, loop: asyncio.AbstractEventLoop) -> None:
    push(queue, loop, "b", 6, bulk=True)
    push(queue, loop, "u", 10 * 2 * BULK_EVERY)
    taken = packs(queue, 3 * BULK_EVERY)
    assert [number for number, pack in enumerate(taken, 1) if pack == "bb"] == [
        BULK_EVERY,
        2 * BULK_EVERY,
        3 * BULK_EVERY,
    ]


def test_bulk_that_comes_late_waits_its_full_turn(
    queue: PackQueue, loop: asyncio.AbstractEventLoop
) -> None:
    push(queue, loop, "u", 10 * 2 * BULK_EVERY)
    packs(queue, 3 * BULK_EVERY)
    push(queue, loop, "b", 2, bulk=True)
    assert packs(queue, BULK_EVERY).index("bb") == BULK_EVERY - 1


def test_bulk_is_fair_between_its_callers(
    queue: PackQueue, loop: asyncio.AbstractEventLoop
) -> None:
    push(queue, loop, "b", 40, bulk=True)
    push(queue, loop, "c", 40, bulk=True)
    taken = "".join(packs(queue, 20))
    assert abs(taken.count("b") - taken.count("c")) <= 1


def test_bulk_that_nobody_waits_for_is_dropped(
    queue: PackQueue, loop: asyncio.AbstractEventLoop
) -> None:
    job = push(queue, loop, "b", 4, bulk=True)
    push(queue, loop, "b", 2, bulk=False)
    assert len(queue.drop(job)) == 4
    assert packs(queue, 2) == ["bb", ""]


def test_a_text_that_another_turn_has_taken_is_passed_over(
    queue: PackQueue, loop: asyncio.AbstractEventLoop
) -> None:
    flight = Flight(np.zeros(LENGTH, np.int64), b"key")
    for user, bulk in (("b", True), ("u", False), ("v", False)):
        job = Job(user, 1, True, bulk, loop.create_future())
        queue.push([Text(job, 0, flight)])
    push(queue, loop, "w", 1)
    assert packs(queue, 2) == ["uw", ""]
