import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.postprocess import cut, normalise


@given(st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_cut_vectors_have_length_one_and_keep_their_direction(dimensions: int, seed: int) -> None:
    vectors = normalise(np.random.default_rng(seed).normal(size=(3, 64)).astype(np.float32))
    shorter = cut(vectors, dimensions)
    assert shorter.shape == (3, dimensions)
    assert shorter.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(shorter, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.sign(shorter), np.sign(vectors[:, :dimensions]))


@pytest.mark.parametrize("dimensions", [0, 65, -1])
def test_impossible_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        cut(np.ones((1, 64), np.float32), dimensions)


def test_a_row_of_zeros_stays_finite() -> None:
    assert (normalise(np.zeros((1, 4), np.float32)) == 0).all()
