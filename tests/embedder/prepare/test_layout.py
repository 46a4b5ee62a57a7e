"""Panels contain every value of a matrix where the engine reads it."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedder.prepare.layout import float_panels, int8_panels, interleaved, padded, rounded
from embedder.prepare.quantise import Floats
from embedder.prepare.rotation import against_rotated_inputs, block_size, hadamard
from embedder.prepare.weight import Linear

sizes = st.integers(1, 70)


def random(n: int, k: int) -> Floats:
    return np.random.default_rng(n * 100 + k).normal(size=(n, k)).astype(np.float32)


def unpacked(panels: np.ndarray) -> np.ndarray:
    """(panels, K / 4, 16, 4) or (panels, K, 16) back to (N, K)."""
    axes = (0, 2, 1, 3) if panels.ndim == 4 else (0, 2, 1)
    return panels.transpose(axes).reshape(len(panels) * 16, -1)


@given(sizes, sizes)
def test_panels_contain_the_matrix(n: int, k: int) -> None:
    matrix = padded(random(n, k), rounded(n), rounded(k))
    steps = np.rint(matrix * 30).astype(np.int8)
    panels = int8_panels(steps)
    assert panels.shape == (rounded(n) // 16, rounded(k) // 4, 16, 4)
    assert np.array_equal(unpacked(panels), steps)
    p, group, column, j = (length - 1 for length in panels.shape)
    assert panels[p, group, column, j] == steps[16 * p + column, 4 * group + j]
    assert float_panels(matrix).shape == (rounded(n) // 16, rounded(k), 16)
    assert np.array_equal(unpacked(float_panels(matrix)), matrix)


@given(sizes, sizes)
def test_padding_is_zero(n: int, k: int) -> None:
    whole = padded(random(n, k), rounded(n), rounded(k))
    assert np.array_equal(whole[:n, :k], random(n, k))
    assert not whole[n:].any()
    assert not whole[:, k:].any()


@given(sizes)
def test_gate_and_up_alternate_every_16_outputs(n: int) -> None:
    gate, up = random(n, 16), random(n, 16) + 100
    pairs = interleaved(gate, up).reshape(-1, 2, 16, 16)
    assert np.array_equal(pairs[:, 0].reshape(-1, 16)[:n], gate)
    assert np.array_equal(pairs[:, 1].reshape(-1, 16)[:n], up)


@given(sizes, sizes, st.booleans())
def test_an_int8_product_with_the_stored_panels_is_the_product(
    n: int, k: int, measured: bool
) -> None:
    matrix, x = random(n, k), random(9, k)
    linear = Linear(
        name="linear",
        n=n,
        k=k,
        matrix=lambda: matrix,
        bias=np.arange(n, dtype=np.float32),
        gram=lambda: x.T @ x if measured else None,
    )
    arrays: list[Any] = list(linear.arrays("int8"))
    panels, scale, total, bias = arrays
    steps = unpacked(panels).astype(np.int64)
    assert np.array_equal(steps.sum(axis=1), total)
    assert not scale[n:].any()
    assert np.array_equal(bias, padded(np.arange(n, dtype=np.float32), rounded(n)))
    inputs = hadamard(padded(x, 9, rounded(k)), block_size(rounded(k)))
    found = (inputs @ (steps * scale[:, None]).T)[:, :n]
    largest = np.abs(against_rotated_inputs(padded(matrix, n, rounded(k)))).max()
    error = np.abs(found - x @ matrix.T).max()
    assert error <= largest / 127 * np.abs(inputs).sum(axis=1).max()


@given(sizes, sizes, st.sampled_from(["int8", "fp16", "fp32"]))
def test_arrays_have_the_declared_shapes_and_types(n: int, k: int, precision: str) -> None:
    linear = Linear(name="linear", n=n, k=k, matrix=lambda: random(n, k))
    kinds = {"I8": "int8", "I32": "int32", "F16": "float16", "F32": "float32"}
    declared = linear.declared(precision)
    for tensor, array in zip(declared, linear.arrays(precision), strict=True):
        assert (tensor.shape, kinds[tensor.dtype]) == (array.shape, array.dtype.name)
        assert array.nbytes % 64 == 0
