"""Bounds on requests at once: per user, over all users, and for users without any."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from errors import Overloaded
from gate.errors import TooManyConcurrent
from gate.in_flight import InFlight


def test_a_user_has_so_many_places(held: ExitStack) -> None:
    calls = InFlight(100, per_user=3)
    hold(held, calls, *["a"] * 3)
    with pytest.raises(TooManyConcurrent):
        hold(held, calls, "a")
    hold(held, calls, "b")


def test_users_who_have_a_call_share_the_limit(held: ExitStack) -> None:
    calls = InFlight(4, per_user=3)
    hold(held, calls, "a", "a", "b", "b")
    for user in ("a", "b"):
        with pytest.raises(Overloaded):
            hold(held, calls, user)


def test_a_user_without_a_call_is_admitted_up_to_twice_the_limit(held: ExitStack) -> None:
    calls = InFlight(4, per_user=4)
    hold(held, calls, *["a"] * 4)
    hold(held, calls, "b", "c", "d", "e")
    with pytest.raises(Overloaded):
        hold(held, calls, "f")
    assert calls.count == 8


def test_places_are_given_back(held: ExitStack) -> None:
    calls = InFlight(1, per_user=1)
    for _ in range(3):
        with calls.hold("a"), pytest.raises(TooManyConcurrent), calls.hold("a"):
            pass
    assert calls.count == 0
    hold(held, calls, "a")


def test_users_without_a_call_leave_nothing_behind() -> None:
    calls = InFlight(1, per_user=2)
    for n in range(1000):
        with calls.hold(str(n)):
            pass
    assert not calls._calls


@pytest.fixture
def held() -> ExitStack:
    return ExitStack()


def hold(held: ExitStack, calls: InFlight, *users: str) -> None:
    for user in users:
        held.enter_context(calls.hold(user))
