"""When a failing server is not asked, and when it is tried again."""

from __future__ import annotations

from lab.signing import Clock
from quota.breaker import Breaker


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures=3, pause=2.0, monotonic=clock)
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    return breaker


def test_opens_after_three_failures_in_a_row(clock: Clock) -> None:
    assert not opened(clock).admits()


def test_success_between_failures_keeps_it_closed(clock: Clock) -> None:
    breaker = Breaker(failures=3, pause=2.0, monotonic=clock)
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        assert not breaker.healthy
        breaker.succeeded()
        assert breaker.healthy
    assert breaker.admits()


def test_one_probe_at_a_time_once_the_pause_is_over(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 2
    assert [breaker.admits() for _ in range(5)] == [True, False, False, False, False]
    clock.now += 2  # the probe never came back
    assert breaker.admits()


def test_probe_that_fails_starts_the_pause_again(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 2
    assert breaker.admits()
    clock.now += 0.25
    breaker.failed()
    clock.now += 1.75
    assert not breaker.admits()
    clock.now += 0.25
    assert breaker.admits()


def test_probe_that_succeeds_closes_it(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 2
    assert breaker.admits()
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(5))
