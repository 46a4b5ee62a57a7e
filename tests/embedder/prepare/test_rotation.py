"""The Hadamard transform: a product is the same with inputs and weights rotated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.prepare.rotation import (
    against_rotated_inputs,
    block_size,
    hadamard,
    orthogonal,
    rotated_gram,
    rotated_outputs,
)

sizes = st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128])


def sylvester(size: int) -> np.ndarray:
    """H[i, j] = (-1) ** popcount(i & j)."""
    index = np.arange(size)
    signs: np.ndarray = (-1.0) ** np.bitwise_count(index[:, None] & index)
    return signs


@given(sizes, st.integers(1, 3), st.integers(0, 99))
def test_it_is_sylvesters_matrix_block_by_block(size: int, blocks: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, size * blocks)).astype(np.float32)
    expected = (values.reshape(3, blocks, size) @ sylvester(size)).reshape(values.shape)
    np.testing.assert_allclose(hadamard(values, size), expected, atol=1e-4)


def test_the_argument_is_unchanged() -> None:
    values = np.arange(64, dtype=np.float32).reshape(2, 32)
    kept = values.copy()
    hadamard(values, 32)
    assert np.array_equal(values, kept)


@pytest.mark.parametrize(
    ("width", "block"),
    [(16, 16), (48, 16), (96, 32), (384, 128), (768, 128), (1152, 128), (1536, 128)],
)
def test_a_block_is_the_largest_power_of_two_up_to_128_that_divides(width: int, block: int) -> None:
    assert block_size(width) == block


@given(st.sampled_from([16, 48, 64, 96, 256]), st.integers(1, 20), st.integers(0, 99))
def test_rotated_inputs_and_weights_give_the_product(width: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, matrix = (rng.normal(size=(rows, width)).astype(np.float32) for _ in range(2))
    found = hadamard(x, block_size(width)) @ against_rotated_inputs(matrix).T
    np.testing.assert_allclose(found, x @ matrix.T, atol=1e-4)


@given(st.sampled_from([16, 32, 64]), st.integers(1, 4), st.integers(0, 99))
def test_values_rotated_by_their_weights_are_undone_by_the_output(
    head: int, heads: int, seed: int
) -> None:
    """Attention mixes tokens and never channels, so it commutes with the rotation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 24)).astype(np.float32)
    mix = rng.random((5, 5)).astype(np.float32)
    v = rng.normal(size=(head * heads, 24)).astype(np.float32)
    bias = rng.normal(size=head * heads).astype(np.float32)
    out = rng.normal(size=(40, head * heads)).astype(np.float32)
    rotated = x @ rotated_outputs(v, head).T + rotated_outputs(bias, head)
    found = mix @ rotated @ orthogonal(out, head).T
    np.testing.assert_allclose(found, mix @ (x @ v.T + bias) @ out.T, rtol=1e-3, atol=1e-2)


def test_a_rotated_gram_matrix_is_that_of_rotated_inputs() -> None:
    x = np.random.default_rng(0).normal(size=(50, 96)).astype(np.float32)
    rotated = hadamard(x, 32)
    np.testing.assert_allclose(rotated_gram(x.T @ x, 32), rotated.T @ rotated, rtol=1e-3, atol=0.1)
