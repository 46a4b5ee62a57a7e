"""What pages of the service itself answer."""

from api.status import allowance


def test_an_allowance_of_which_nothing_is_used_has_nothing_to_wait_for() -> None:
    assert allowance(10, 10, None) == {"limit": 10, "remaining": 10, "reset_after": 0}
    assert allowance(10, 0, 1.2) == {"limit": 10, "remaining": 0, "reset_after": 2}
    assert allowance(None, None, None) is None
