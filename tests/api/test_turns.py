"""Connections that are read from in turns of an event loop."""

import asyncio
from functools import partial

from api.turns import Turns

PER_TURN = 8


def _work() -> None:
    """Nothing."""


async def test_a_few_are_read_at_once_and_the_others_in_later_turns() -> None:
    read: list[int] = []
    turns = Turns(PER_TURN)
    taken = [
        turns.take(user="a", later=partial(read.append, number)) for number in range(3 * PER_TURN)
    ]
    assert taken == [True] * PER_TURN + [False] * 2 * PER_TURN
    await asyncio.sleep(0)
    assert read == list(range(PER_TURN, 2 * PER_TURN))
    await asyncio.sleep(0)
    assert read == list(range(PER_TURN, 3 * PER_TURN))


async def test_a_user_with_one_connection_waits_for_one_turn_at_most() -> None:
    read: list[str] = []
    turns = Turns(PER_TURN)
    for number in range(100):
        turns.take(user="flood", later=partial(read.append, f"flood {number}"))
    assert not turns.take(user="victim", later=partial(read.append, "victim"))
    await asyncio.sleep(0)
    assert "victim" in read


async def test_users_take_turns_one_connection_each() -> None:
    read: list[str] = []
    turns = Turns(PER_TURN)
    for number in range(PER_TURN):
        turns.take(user="a", later=partial(read.append, f"a{number}"))
    for name in ("a8", "a9", "b0", "b1", "c0"):
        turns.take(user=name[0], later=partial(read.append, name))
    await asyncio.sleep(0)
    assert read == ["a8", "b0", "c0", "a9", "b1"]


async def test_after_a_turn_without_much_to_read_everything_is_read_at_once_again() -> None:
    read: list[int] = []
    turns = Turns(PER_TURN)
    for _ in range(3):
        assert all(
            turns.take(user="a", later=partial(read.append, number)) for number in range(PER_TURN)
        )
        await asyncio.sleep(0)


async def test_none_overtakes_those_who_wait() -> None:
    read: list[int] = []
    turns = Turns(PER_TURN)
    for number in range(2 * PER_TURN + 1):
        turns.take(user="a", later=partial(read.append, number))
    await asyncio.sleep(0)
    assert not turns.take(user="a", later=partial(read.append, 99))
    await asyncio.sleep(0)
    assert read[-2:] == [2 * PER_TURN, 99]


async def test_a_cancelled_task_keeps_nobody_waiting() -> None:
    turns = Turns(1)
    first, second, third = (asyncio.create_task(turns.wait(user="a")) for _ in range(3))
    await asyncio.sleep(0)
    assert (first.done(), second.done(), third.done()) == (True, False, False)
    second.cancel()
    async with asyncio.timeout(5):
        await third


async def test_work_that_costs_much_leaves_less_for_others_in_its_turn() -> None:
    turns = Turns(PER_TURN)
    taken = [turns.take(user="a", later=_work, cost=PER_TURN // 2) for _ in range(3)]
    assert taken == [True, True, False]


async def test_work_that_costs_more_than_a_turn_has_is_done_all_the_same() -> None:
    turns = Turns(PER_TURN)
    assert turns.take(user="a", later=_work, cost=10 * PER_TURN)
    await asyncio.sleep(0)
    assert turns.take(user="a", later=_work, cost=10 * PER_TURN)
