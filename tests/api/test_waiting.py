"""Who has waited longest makes room."""

from api.waiting import Waiting


def test_those_who_began_first_go_first_however_much_they_sent_since() -> None:
    waiting = Waiting[str](max_bytes=100)
    for name in ("first", "second", "third"):
        waiting.wait(name)
    waiting.wait("first", sent=10)
    assert list(waiting.beyond(connections=2)) == ["first", "second"]
    assert "third" in waiting


def test_so_many_go_that_the_bytes_are_within_bounds() -> None:
    waiting = Waiting[str](max_bytes=100)
    for name in ("first", "second", "third"):
        waiting.wait(name, sent=20)
        waiting.wait(name, sent=50)
    assert list(waiting.beyond()) == ["first"]
    assert list(waiting.beyond()) == []


def test_who_ends_waiting_counts_no_more_and_begins_again_at_the_end() -> None:
    waiting = Waiting[str](max_bytes=100)
    for name in ("first", "second"):
        waiting.wait(name, sent=60)
    waiting.end("first")
    waiting.end("first")
    assert list(waiting.beyond()) == []
    waiting.wait("first")
    assert list(waiting.beyond(connections=1)) == ["second"]
    assert list(waiting.beyond(connections=5)) == ["first"]
