"""fp32 weights in fewer bits.

int8 has one scale per output of a product and one per row of the embedding table. fp16 means
16-bit storage and fp32 arithmetic: EmbeddingGemma's activations reach 8e5, fp16 ends at 65,504.

Weights of products are rounded for what the products read (GPTQ, arXiv:2210.17323): what rounding
one input's weights changes in the outputs, the weights of later inputs make good. With int8 weights
and fp32 activations the starter model's mean cosine to fp32 is 0.99995 so, and 0.99966 where each
weight is rounded to the nearest.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BLOCK = 64  # inputs whose errors are spread over the rest in one product
_DAMPING = 0.01
_TINY = np.float32(1e-12)  # keeps a row of zeros from dividing by zero


def int8(matrix: Floats) -> tuple[NDArray[np.int8], Floats]:
    """(rows, width) to values between -127 and 127 and a scale per row: matrix = values * scale."""
    scale = int8_scale(matrix)
    values = np.rint(matrix / scale[:, None]).astype(np.int8)
    return values, scale


def int8_for_inputs(matrix: Floats, gram: Floats) -> tuple[NDArray[np.int8], Floats]:
    """The same for a product of inputs X, where gram = X.T @ X of (width, width).

    Rounds the inputs' weights one after the other and spreads each error over those that follow.
    """
    scale = int8_scale(matrix)
    weights = np.ascontiguousarray(matrix.T)  # (width, rows)
    values = np.empty(weights.shape, np.int8)
    spread = _spread(gram)
    for start in range(0, len(weights), _BLOCK):
        end = min(start + _BLOCK, len(weights))
        errors = np.empty((end - start, weights.shape[1]), np.float32)
        for k in range(start, end):
            values[k] = np.rint(np.clip(weights[k] / scale, -127, 127))
            errors[k - start] = (weights[k] - values[k] * scale) / spread[k, k]
            weights[k + 1 : end] -= spread[k, k + 1 : end, None] * errors[k - start]
        weights[end:] -= spread[start:end, end:].T @ errors
    return np.ascontiguousarray(values.T), scale


def _spread(gram: Floats) -> Floats:
    """(width, width), upper: row k says how an error in input k's weights is shared.

    The Cholesky factor of the inverse. A hundredth of the mean is added to the diagonal, since
    the texts are few and some inputs are hardly used.
    """
    damped = gram.astype(np.float64)
    damped[np.diag_indices_from(damped)] += _DAMPING * damped.diagonal().mean() + float(_TINY)
    upper: Floats = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return upper


def int8_scale(matrix: Floats) -> Floats:
    """(rows, width) to (rows,): the largest value becomes 127."""
    scale: Floats = np.maximum(np.abs(matrix).max(axis=1), _TINY) / np.float32(127)
    return scale


def fp16(matrix: Floats) -> NDArray[np.float16]:
    """The nearest 16-bit values; none becomes infinite."""
    limit = np.finfo(np.float16).max
    return np.clip(matrix, -limit, limit).astype(np.float16)
