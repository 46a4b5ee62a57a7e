"""Limits of the queue, and whether a request is admitted after `retry_after`."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.admission import LONGEST_WAIT, MIN_COST, Admission, cost_of
from embedder.errors import NotAdmittedError, QueueFullError, TooManyTokensError, UserQueueFullError
from embedder.fair_queue import FairQueue

USER, TOTAL = 524_288, 1_048_576  # the defaults
QUERY = [MIN_COST]

requests = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.integers(1, USER // 64)), max_size=60
)  # user, and so many times 64 tokens


def admission(user: int = USER, total: int = TOTAL) -> Admission:
    return Admission(user_tokens=user, total_tokens=total)


def filled(queue: Admission, asked: list[tuple[str, list[int]]]) -> dict[str, list[int]]:
    """Send requests in order. Returns the lengths of each user's texts that wait."""
    waiting = dict[str, list[int]]()
    for user, lengths in asked:
        with suppress(NotAdmittedError):
            queue.admit(user, lengths)
            waiting.setdefault(user, []).extend(lengths)
    return waiting


@settings(deadline=None)
@given(requests)
def test_no_user_exceeds_its_limit_and_all_together_at_most_twice_the_total(
    asked: list[tuple[str, int]],
) -> None:
    queue = admission()
    waiting = filled(queue, [(user, [64 * n]) for user, n in asked])
    assert queue.tokens == sum(map(sum, waiting.values())) <= 2 * TOTAL
    assert all(sum(lengths) <= USER for lengths in waiting.values())
    for user, lengths in waiting.items():
        for length in lengths:
            queue.release(user, length)
    assert queue.tokens == 0
    assert not queue._of


@settings(deadline=None)
@given(requests)
def test_ten_users_cannot_keep_out_a_few_queries_of_another(
    asked: list[tuple[str, int]],
) -> None:
    queue = admission()
    filled(queue, [(user, [64 * n]) for user, n in asked])
    for _ in range(4):
        queue.admit("another", QUERY)


@settings(deadline=None)
@given(st.lists(st.integers(1, USER), max_size=10), st.integers(1, USER))
def test_a_single_user_cannot_keep_out_others(asked: list[int], length: int) -> None:
    queue = admission()
    filled(queue, [("a", [theirs]) for theirs in asked])
    queue.admit("b", [length])


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 2048), min_size=1, max_size=2048),
    st.integers(1, 100_000),
)
def test_a_request_that_can_never_fit_learns_how_many_of_its_texts_fit(
    lengths: list[int], limit: int
) -> None:
    queue = admission(user=limit, total=limit)
    costs = list(map(cost_of, lengths))
    if sum(costs) <= limit:
        queue.admit("a", lengths)
        assert queue.tokens == sum(costs)
        return
    with pytest.raises(TooManyTokensError) as refused:
        queue.admit("a", lengths)
    fit = refused.value.fit
    assert sum(costs[:fit]) <= limit < sum(costs[: fit + 1])
    assert queue.tokens == 0
    assert str(fit) in str(refused.value) or fit == 0


def test_beyond_the_total_only_users_with_little_waiting_are_admitted() -> None:
    queue = admission()
    for user in "ab":
        queue.admit(user, [USER - 64])
    queue.admit("c", [4096])
    queue.admit("c", QUERY)
    with pytest.raises(QueueFullError):
        queue.admit("c", QUERY)
    with pytest.raises(QueueFullError):
        queue.admit("a", QUERY)
    queue.admit("d", [USER // 2])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 100)), max_size=30),
    st.sampled_from("abcdefghijk"),
    st.integers(1, 100),
    st.integers(1, 64),
    st.integers(10, 1000),
)
def test_a_request_is_admitted_after_retry_after(
    asked: list[tuple[str, int]], user: str, texts: int, length: int, rate: int
) -> None:
    """The engine takes the users' texts in fair turns, each within one text of its share."""
    queue = admission(user=100 * 64, total=200 * 64)
    queue.measure(rate, 1)
    waiting = filled(queue, [(user, [length] * n) for user, n in asked])
    try:
        queue.require_space(user, 64 * texts)
    except (UserQueueFullError, QueueFullError) as refused:
        wait = refused.retry_after
    else:
        return
    assert 1 <= wait <= LONGEST_WAIT
    turns: FairQueue[str] = FairQueue()
    for other, lengths in waiting.items():
        for one in lengths:
            turns.push(other, other, one)
    for _ in range(wait * rate // length + len(waiting)):
        if turns.peek() is not None:
            queue.release(turns.pop(), length)
    if wait < LONGEST_WAIT:
        queue.require_space(user, 64 * texts)


def test_retry_after_before_tokenising_assumes_the_largest_possible_request() -> None:
    queue = admission(user=1000, total=2000)
    queue.measure(10, 1)
    queue.admit("a", [1000])
    with pytest.raises(UserQueueFullError) as least:
        queue.require_space("a", 64)
    with pytest.raises(UserQueueFullError) as most:
        queue.require_space("a", 64, most=300)
    assert (least.value.retry_after, most.value.retry_after) == (7, 30)


def test_without_a_measured_rate_retry_after_is_the_longest() -> None:
    queue = admission()
    queue.admit("a", [USER])
    with pytest.raises(UserQueueFullError) as refused:
        queue.admit("a", QUERY)
    assert refused.value.retry_after == LONGEST_WAIT


def test_bulk_fills_half_of_the_queue_at_most() -> None:
    queue = admission(user=1000, total=2000)
    queue.admit("bulk", [500], bulk=True)
    queue.admit("bulk", [500], bulk=True)
    with pytest.raises(QueueFullError):
        queue.admit("other bulk", [64], bulk=True)
    queue.admit("a", [1000])
    for _ in range(1000 // 64):
        queue.release("bulk", 64)
    with pytest.raises(QueueFullError):
        queue.admit("other bulk", [64], bulk=True)


def test_an_empty_queue_takes_any_bulk_request() -> None:
    queue = admission(user=2000, total=2000)
    queue.admit("bulk", [2000], bulk=True)


def test_a_bulk_user_is_told_to_wait_for_all_work_of_others() -> None:
    queue = admission(user=1000, total=10_000)
    queue.measure(10, 1)
    queue.admit("a", [300])
    queue.admit("bulk", [1000], bulk=True)
    with pytest.raises(UserQueueFullError) as refused:
        queue.admit("bulk", [100], bulk=True)
    assert refused.value.retry_after == (300 + 100) // 10
