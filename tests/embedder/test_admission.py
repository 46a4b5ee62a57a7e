"""Who is admitted to the queue, and whether who comes back when told is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.admission import LEAST_TOKENS, LONGEST_WAIT, Admission, cost_of
from embedder.errors import NoRoomError, QueueFullError, TooManyTokensError, UserQueueFullError
from embedder.fair_queue import FairQueue

USER, TOTAL = 524_288, 1_048_576  # the defaults
QUERY = [LEAST_TOKENS]

lengths = st.lists(st.integers(1, 2048).map(cost_of), min_size=1, max_size=2048)
requests = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.integers(1, USER // 64).map(lambda n: n * 64)),
    max_size=60,
)


def admission(user: int = USER, total: int = TOTAL) -> Admission:
    return Admission(user_tokens=user, total_tokens=total)


def filled(asked: list[tuple[str, int]]) -> tuple[Admission, dict[str, list[int]]]:
    """After these requests, and what was admitted of each user."""
    queue, admitted = admission(), dict[str, list[int]]()
    queue.measure(64, 1)
    for user, cost in asked:
        try:
            queue.admit(user, [cost])
        except NoRoomError:
            continue
        admitted.setdefault(user, []).append(cost)
    return queue, admitted


@given(requests)
def test_nobody_has_more_than_a_share_and_all_have_no_more_than_twice_the_total(
    asked: list[tuple[str, int]],
) -> None:
    queue, admitted = filled(asked)
    assert queue.tokens == sum(map(sum, admitted.values())) <= 2 * TOTAL
    assert all(sum(costs) <= USER for costs in admitted.values())
    for user, costs in admitted.items():
        for cost in costs:
            queue.release(user, cost)
    assert queue.tokens == 0
    assert not queue._of


@given(requests)
def test_ten_users_cannot_take_the_room_of_anothers_few_queries(
    asked: list[tuple[str, int]],
) -> None:
    queue, _ = filled(asked)
    for _ in range(4):
        queue.admit("another", QUERY)


@given(st.lists(st.integers(1, USER), max_size=10), st.integers(1, USER))
def test_one_user_alone_keeps_nobody_out(asked: list[int], cost: int) -> None:
    queue, _ = filled([("a", cost) for cost in asked])
    queue.admit("b", [cost])


@given(lengths, st.integers(1, 100_000))
def test_a_request_that_can_never_fit_is_told_how_many_of_its_texts_do(
    costs: list[int], limit: int
) -> None:
    queue = admission(user=limit, total=limit)
    if sum(costs) <= limit:
        assert queue.admit("a", costs) == sum(costs)
        return
    with pytest.raises(TooManyTokensError) as refused:
        queue.admit("a", costs)
    fit = refused.value.fit
    assert sum(costs[:fit]) <= limit < sum(costs[: fit + 1])
    assert queue.tokens == 0
    assert str(fit) in str(refused.value) or fit == 0


def test_beyond_the_total_only_those_with_little_waiting_are_admitted() -> None:
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
@given(requests, st.sampled_from("abcdefghijk"), st.integers(1, USER // 64), st.integers(10, 10**5))
def test_who_waits_as_told_is_admitted(
    asked: list[tuple[str, int]], user: str, texts: int, rate: int
) -> None:
    """While the engine takes the users' texts in fair turns, each within one text of its share."""
    queue, admitted = filled(asked)
    queue.measure(10**9 * rate, 10**9)
    try:
        queue.check(user, 64 * texts)
    except (UserQueueFullError, QueueFullError) as refused:
        wait = refused.retry_after
    else:
        return
    assert 1 <= wait <= LONGEST_WAIT
    turns: FairQueue[str] = FairQueue()
    for other, costs in admitted.items():
        for _ in range(sum(costs) // 64):
            turns.push(other, other, 64)
    for _ in range(wait * rate // 64 + len(admitted)):
        if turns.peek() is not None:
            queue.release(turns.pop(), 64)
    if wait < LONGEST_WAIT:
        queue.check(user, 64 * texts)


def test_a_check_before_tokenising_tells_of_the_most_that_the_texts_may_have() -> None:
    queue = admission(user=1000, total=2000)
    queue.measure(10, 1)
    queue.admit("a", [1000])
    with pytest.raises(UserQueueFullError) as least:
        queue.check("a", 64)
    with pytest.raises(UserQueueFullError) as most:
        queue.check("a", 64, most=300)
    assert (least.value.retry_after, most.value.retry_after) == (7, 30)


def test_without_a_measured_rate_the_longest_wait_is_told() -> None:
    queue = admission()
    queue.admit("a", [USER])
    with pytest.raises(UserQueueFullError) as refused:
        queue.admit("a", QUERY)
    assert refused.value.retry_after == LONGEST_WAIT
