"""The fair queue: it loses no item, keeps each user's order, and is fair between users."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.fair_queue import FairQueue

users = st.sampled_from("abcd")
pushes = st.lists(st.tuples(users, st.integers(1, 2048)), max_size=60)


def drained(queue: FairQueue[tuple[str, int]]) -> list[tuple[str, int]]:
    items = []
    while (item := queue.peek()) is not None:
        assert queue.pop() == item
        items.append(item)
    return items


@given(pushes)
def test_every_item_comes_out_once_and_in_its_users_order(items: list[tuple[str, int]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    numbered = [(user, number) for number, (user, _) in enumerate(items)]
    for item, (user, cost) in zip(numbered, items, strict=True):
        queue.push(user, item, cost)
    out = drained(queue)
    for user in "abcd":
        assert [item for item in out if item[0] == user] == [
            item for item in numbered if item[0] == user
        ]


costs = st.integers(1, 512)


def crowded(crowd: list[list[int]], served: int) -> FairQueue[tuple[str, int]]:
    """Every user has items of these costs; one of each user and some more were served."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for user, line in enumerate(crowd):
        for number, cost in enumerate(line):
            queue.push(f"crowd {user}", (f"crowd {user}", number), cost)
    for _ in range(min(len(crowd) + served, sum(map(len, crowd)) - 1)):
        queue.pop()
    return queue


crowds = st.lists(st.lists(costs, min_size=2, max_size=20), min_size=1, max_size=10)


@given(crowds, costs, st.integers(0, 199))
def test_a_new_user_is_next_however_many_wait(
    crowd: list[list[int]], cost: int, served: int
) -> None:
    queue = crowded(crowd, served)
    queue.push("newcomer", ("newcomer", 0), cost)
    assert queue.peek() == ("newcomer", 0)


@given(st.integers(1, 10), st.integers(0, 50), st.integers(1, 16), st.integers(1, 16))
def test_a_user_who_takes_less_than_a_share_is_always_next(
    users: int, served: int, cost: int, times: int
) -> None:
    """With texts of equal length, such as truncated ones, the users' turns coincide."""
    queue = crowded([[256] * 100] * users, served)
    for number in range(times):  # 256 tokens at most, while each of the crowd has one item of 256
        queue.push("single", ("single", number), cost)
        assert queue.pop() == ("single", number)
        queue.pop()


@given(crowds, st.integers(0, 199), st.data())
def test_dropped_items_never_come_out_and_the_others_do(
    crowd: list[list[int]], served: int, data: st.DataObject
) -> None:
    queue, whole = crowded(crowd, served), drained(crowded(crowd, served))
    user = f"crowd {data.draw(st.integers(0, len(crowd)))}"
    unwanted = data.draw(st.sets(st.integers(0, 20)))
    queue.drop(user, lambda item: item[1] in unwanted)
    left = drained(queue)
    assert sorted(left) == sorted(
        item for item in whole if item[0] != user or item[1] not in unwanted
    )
    assert not queue._waiting
    assert not queue._finish


@given(
    st.lists(st.integers(1, 100), min_size=40, max_size=40),
    st.lists(st.integers(1, 100), min_size=40, max_size=40),
)
def test_busy_users_get_equal_shares(first: list[int], second: list[int]) -> None:
    """While both wait, their shares differ by at most two of the largest items."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    left = {"a": len(first), "b": len(second)}
    for user, costs in (("a", first), ("b", second)):
        for cost in costs:
            queue.push(user, (user, cost), cost)
    served = {"a": 0, "b": 0}
    while all(left.values()):
        user, cost = queue.pop()
        served[user] += cost
        left[user] -= 1
        assert abs(served["a"] - served["b"]) <= 200


@pytest.mark.parametrize("crowd", [0, 1])
def test_users_without_items_take_no_memory(crowd: int) -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5000):
        for _ in range(crowd):
            queue.push("crowd", number, 10)
        queue.push(f"user-{number}", number, 10)
        for _ in range(1 + crowd):
            queue.pop()
    assert len(queue._finish) <= 1025
