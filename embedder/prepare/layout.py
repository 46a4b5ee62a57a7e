"""The layout of a matrix in the model file: panels of 16 outputs, the same for every kernel.

Four inputs of 16 outputs are 64 bytes of int8: one AVX-512 register, two of AVX2, four of NEON.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LANES = 16
DEPTH = 4  # int8 inputs that one dot-product instruction multiplies

Value = TypeVar("Value", bound=np.generic)


def rounded(count: int) -> int:
    """`count` rounded up to a multiple of 16."""
    return -(-count // LANES) * LANES


def padded(array: NDArray[Value], *shape: int) -> NDArray[Value]:
    """`array` padded with zeros to `shape`."""
    if array.shape == shape:
        return array
    whole = np.zeros(shape, array.dtype)
    whole[tuple(slice(size) for size in array.shape)] = array
    return whole


def int8_panels(matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    """(N, K), multiples of 16, to (N / 16, K / 4, 16, 4)."""
    n, k = matrix.shape
    panels = matrix.reshape(n // LANES, LANES, k // DEPTH, DEPTH)
    return np.ascontiguousarray(panels.transpose(0, 2, 1, 3))


def float_panels(matrix: NDArray[Value]) -> NDArray[Value]:
    """(N, K), multiples of 16, to (N / 16, K, 16)."""
    n, k = matrix.shape
    return np.ascontiguousarray(matrix.reshape(n // LANES, LANES, k).transpose(0, 2, 1))


def interleaved(first: NDArray[Value], second: NDArray[Value]) -> NDArray[Value]:
    """Two (N, K) to (2 * N padded to 16, K): 16 rows of the first, 16 of the second, and so on."""
    n, k = rounded(len(first)), first.shape[1]
    pairs = [padded(matrix, n, k).reshape(n // LANES, 1, LANES, k) for matrix in (first, second)]
    return np.concatenate(pairs, axis=1).reshape(2 * n, k)
