"""Keys: one for each text, that says nothing without the secret."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cache.keys import Keys, Scope
from embedder.tokenized_text import TokenIds

SECRET = b"a secret of thirty-two characters"
texts = st.lists(st.lists(st.integers(0, 300_000), min_size=1, max_size=5), unique_by=tuple)


def ids(numbers: list[int], dtype: type = np.int32) -> TokenIds:
    return np.array(numbers, dtype)


def keys_of(
    numbers: list[list[int]], *, user: str = "u", scope: Scope = "user", secret: bytes = SECRET
) -> list[bytes]:
    return Keys(secret, scope=scope).of([ids(each) for each in numbers], user=user)


@given(texts)
def test_different_texts_have_different_keys_and_equal_ones_equal_keys(
    numbers: list[list[int]],
) -> None:
    keys = keys_of(numbers)
    assert len(set(keys)) == len(numbers)
    assert keys == Keys(SECRET, scope="user").of(
        [ids(each, np.int64) for each in numbers], user="u"
    )


def test_a_key_depends_on_the_secret_and_within_the_scope_on_the_user() -> None:
    text = [[1, 2, 3]]
    assert keys_of(text) != keys_of(text, secret=SECRET + b"!")
    assert keys_of(text) != keys_of(text, user="v")
    assert keys_of(text, scope="all") == keys_of(text, user="v", scope="all")
    assert keys_of(text, scope="all") != keys_of(text)


def test_a_sealed_value_opens_under_its_own_key_and_secret_alone() -> None:
    keys = Keys(SECRET, scope="all")
    sealed = keys.seal(b"k" * 16, b"value")
    assert keys.unseal(b"k" * 16, sealed) == b"value"
    assert keys.unseal(b"l" * 16, sealed) is None
    assert keys.unseal(b"k" * 16, sealed[:-1] + b"!") is None
    assert Keys(SECRET + b"!", scope="all").unseal(b"k" * 16, sealed) is None


def test_an_owner_is_a_pseudonym() -> None:
    keys = Keys(SECRET, scope="all")
    assert keys.owner("u") == keys.owner("u") != keys.owner("v")
