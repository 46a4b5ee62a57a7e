"""Changes to JSON documents, for tests of their readers."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st


def places(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path to each value in a JSON document."""
    yield way
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*way, key))


def replaced(document: Any, way: tuple[str | int, ...], value: Any) -> Any:
    """`document` with `value` at `way`; if `value` is `...`, without the value there."""
    if not way:
        return None if value is ... else value
    copy = document.copy()
    if value is ... and len(way) == 1:
        del copy[way[0]]
    else:
        copy[way[0]] = replaced(document[way[0]], way[1:], value)
    return copy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=5,
)
