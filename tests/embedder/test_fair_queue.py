"""The queue's promises: nothing lost, order within a user, no user waits behind another's crowd."""

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
def test_what_is_pushed_comes_out_once_and_in_its_users_order(items: list[tuple[str, int]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    numbered = [(user, number) for number, (user, _) in enumerate(items)]
    for item, (user, cost) in zip(numbered, items, strict=True):
        queue.push(user, item, cost)
    out = drained(queue)
    for user in "abcd":
        assert [item for item in out if item[0] == user] == [
            item for item in numbered if item[0] == user
        ]


@given(
    st.lists(st.integers(1, 512), min_size=1, max_size=200),
    st.integers(1, 512),
    st.integers(0, 199),
)
def test_a_newcomer_waits_for_at_most_one_item_of_a_crowd(
    crowd: list[int], cost: int, served: int
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, weight in enumerate(crowd):
        queue.push("crowd", ("crowd", number), weight)
    for _ in range(min(served, len(crowd) - 1)):
        queue.pop()
    queue.push("newcomer", ("newcomer", 0), cost)
    assert ("newcomer", 0) in drained(queue)[:2]


@given(
    st.lists(st.integers(1, 100), min_size=40, max_size=40),
    st.lists(st.integers(1, 100), min_size=40, max_size=40),
)
def test_busy_users_are_served_alike(first: list[int], second: list[int]) -> None:
    """While both wait, their shares differ by no more than two of the largest items."""
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
def test_many_passing_users_leave_nothing_behind(crowd: int) -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5000):
        for _ in range(crowd):
            queue.push("crowd", number, 10)
        queue.push(f"user-{number}", number, 10)
        for _ in range(1 + crowd):
            queue.pop()
    assert len(queue._finish) <= 1025
