import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.postprocess import normalise, to_base64, to_binary, to_int8, truncate_vectors


@given(st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_truncated_vectors_have_length_one_and_keep_their_direction(
    dimensions: int, seed: int
) -> None:
    vectors = normalise(np.random.default_rng(seed).normal(size=(3, 64)).astype(np.float32))
    shorter = truncate_vectors(vectors, dimensions)
    assert shorter.shape == (3, dimensions)
    assert shorter.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(shorter, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.sign(shorter), np.sign(vectors[:, :dimensions]))


@pytest.mark.parametrize("dimensions", [0, 65, -1])
def test_impossible_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        truncate_vectors(np.ones((1, 64), np.float32), dimensions)


def test_a_row_of_zeros_stays_finite() -> None:
    assert (normalise(np.zeros((1, 4), np.float32)) == 0).all()


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_every_encoding_can_be_decoded(n_texts: int, dimensions: int, seed: int) -> None:
    vectors = normalise(
        np.random.default_rng(seed).normal(size=(n_texts, dimensions)).astype(np.float32)
    )
    read = [np.frombuffer(base64.b64decode(row), "<f4") for row in to_base64(vectors)]
    np.testing.assert_array_equal(np.stack(read), vectors)
    steps = to_int8(vectors)
    assert (np.abs(steps).max(axis=1) == 127).all()
    np.testing.assert_allclose(normalise(steps.astype(np.float32)), vectors, atol=0.6 / 127)
    bits = np.unpackbits(to_binary(vectors), axis=1)
    np.testing.assert_array_equal(bits[:, :dimensions], vectors > 0)
    assert not bits[:, dimensions:].any()


def test_int8_keeps_the_angles_between_vectors() -> None:
    """Compared with the float vectors: a thousand pairs of 768 random dimensions."""
    vectors = normalise(np.random.default_rng(0).normal(size=(1000, 768)).astype(np.float32))
    steps = normalise(to_int8(vectors).astype(np.float32))
    assert float((vectors * steps).sum(axis=1).min()) > 0.9999
    assert np.abs(steps @ steps.T - vectors @ vectors.T).max() < 0.003


def test_a_row_of_zeros_can_be_encoded_as_int8() -> None:
    assert (to_int8(np.zeros((1, 4), np.float32)) == 0).all()
