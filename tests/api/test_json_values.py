"""Values are counted as a parser would find them, before there is a parser."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import json_values
from api.json_values import SLICE, TooManyValuesError, count_values, may_have_more

TEXT = st.text(st.sampled_from('\\",[{a한😀\n'))  # what could be taken for structure
VALUES = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda values: st.lists(values) | st.dictionaries(TEXT, values),
    max_leaves=30,
)


def inner_values(value: Any) -> int:
    """Values inside `value`, at any depth."""
    inside = list(value.values() if isinstance(value, dict) else value)
    return len(inside) + sum(inner_values(one) for one in inside if isinstance(one, dict | list))


def count(text: bytes, limit: int = 10**9) -> int:
    return list(count_values(text, limit=limit))[-1]


@given(st.lists(VALUES) | st.dictionaries(TEXT, VALUES), st.booleans(), st.integers(1, 9))
def test_every_value_is_counted_wherever_the_slices_end(
    value: Any, ensure_ascii: bool, size: int
) -> None:
    """And an empty list or object as if it had one value."""
    text = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "SLICE", size)
        counted = count(text)
    assert (
        inner_values(value)
        <= counted
        <= inner_values(value) + text.count(b"[]") + text.count(b"{}")
    )


@pytest.mark.parametrize(
    "text",
    [b"[" + b"1," * 100 + b"1]", b"[" * 101, b"{" * 101, b'"' * 500, b"," * 101, b'{"a":[],' * 51],
)
def test_more_values_than_the_limit_are_refused(text: bytes) -> None:
    with pytest.raises(TooManyValuesError):
        count(text, limit=100)


def test_as_many_as_the_limit_are_not() -> None:
    assert count(b"[" + b"1," * 99 + b"1]", limit=100) == 100
    assert count(b"{" + b'"a":"b",' * 99 + b'"a":"b"}', limit=100) == 100


def test_what_stands_in_strings_is_no_value() -> None:
    text = json.dumps([',[{"\\', "\\" * 7, '\\"[,' * 50]).encode()
    assert count(text, limit=3) == 3


def test_a_long_text_is_counted_in_slices_and_refused_in_the_first_that_is_too_much() -> None:
    slices = count_values(b'["' + b"a" * 10 * SLICE + b'"]', limit=1)
    assert len(list(slices)) == 11
    slices = count_values(b"[" * 10 * SLICE, limit=SLICE - 1)
    with pytest.raises(TooManyValuesError):
        next(slices)


@given(st.lists(VALUES) | st.dictionaries(TEXT, VALUES), st.integers(0, 40))
def test_a_text_with_more_values_than_the_limit_is_always_counted(value: Any, limit: int) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    assert inner_values(value) <= limit or may_have_more(text, limit=limit)


def test_a_text_without_commas_and_brackets_is_not_counted() -> None:
    assert not may_have_more(b'{"text": "' + b"a" * 1_000 + b'"}', limit=10)
