"""Which answers have to make room for others."""

from contextlib import ExitStack

import pytest

from api.unread import Unread, UnreadAnswers


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def held() -> ExitStack:
    return ExitStack()


@pytest.fixture
def aborted() -> list[str]:
    return []


def hold(
    held: ExitStack, unread: UnreadAnswers, aborted: list[str], name: str, n_bytes: int = 10
) -> Unread:
    """An answer of the user whom `name` begins with."""
    abort = lambda: aborted.append(name)  # noqa: E731
    return held.enter_context(unread.hold(n_bytes, user=name[0], abort=abort))


def test_what_is_sent_is_counted_until_it_is_read(held: ExitStack, aborted: list[str]) -> None:
    unread = UnreadAnswers(30, clock=Clock())
    hold(held, unread, aborted, "a1")
    hold(held, unread, aborted, "b1", 20)
    assert unread.n_bytes == 30
    held.close()
    assert unread.n_bytes == 0
    assert aborted == []


def test_the_answer_that_was_not_read_for_the_longest_makes_room(
    held: ExitStack, aborted: list[str]
) -> None:
    unread = UnreadAnswers(30, clock=Clock())
    first = hold(held, unread, aborted, "a1")
    hold(held, unread, aborted, "b1")
    hold(held, unread, aborted, "c1")
    first.progress()
    hold(held, unread, aborted, "d1")
    assert aborted == ["b1"]
    hold(held, unread, aborted, "e1", 20)
    assert aborted == ["b1", "c1", "a1"]


def test_the_user_with_the_most_makes_room_first(held: ExitStack, aborted: list[str]) -> None:
    unread = UnreadAnswers(40, clock=Clock())
    hold(
        held, unread, aborted, "a1"
    )  # has stood still for the longest, and is all that its user has
    busy = [hold(held, unread, aborted, f"b{number}") for number in range(3)]
    for answer in busy:
        answer.progress()
    hold(held, unread, aborted, "c1")
    hold(held, unread, aborted, "b3")
    assert aborted == ["b0", "b1"]


def test_what_made_room_is_not_counted_again(held: ExitStack, aborted: list[str]) -> None:
    unread = UnreadAnswers(10, clock=Clock())
    for number in range(5):
        hold(held, unread, aborted, f"a{number}")
        assert unread.n_bytes == 10
    assert aborted == ["a0", "a1", "a2", "a3"]
    held.close()
    assert unread.n_bytes == 0


def test_an_answer_larger_than_the_limit_is_sent_alone(held: ExitStack, aborted: list[str]) -> None:
    unread = UnreadAnswers(10, clock=Clock())
    hold(held, unread, aborted, "a1")
    hold(held, unread, aborted, "b1", 50)
    assert aborted == ["a1"]
    assert unread.n_bytes == 50
