"""The form of service keys, and how mistyped ones are noticed."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from auth.service_key_format import PREFIX, is_intact, is_service_key, new_key
from lab.service_keys import KEY

DIGITS = string.ascii_letters + string.digits


def test_a_new_key_is_whole_and_new() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(is_intact(key) and is_service_key(key) for key in keys)
    assert {len(key) for key in keys} == {len(PREFIX) + 43 + 6}


@given(st.integers(len(PREFIX), len(KEY) - 1), st.sampled_from(DIGITS))
def test_one_wrong_character_is_noticed(place: int, character: str) -> None:
    mistyped = KEY[:place] + character + KEY[place + 1 :]
    assert is_intact(mistyped) is (mistyped == KEY)


@given(st.integers(0, len(KEY) - 2))
def test_two_characters_in_the_wrong_order_are_noticed(place: int) -> None:
    mistyped = KEY[:place] + KEY[place + 1] + KEY[place] + KEY[place + 2 :]
    assert is_intact(mistyped) is (mistyped == KEY)


@given(st.text(max_size=80))
def test_no_other_text_is_whole(text: str) -> None:
    assert not is_intact(text)
    assert not is_intact(PREFIX + text)
