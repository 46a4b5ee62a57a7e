"""fp32 weights in fewer bits.

int8 has one scale per output of a product and one per row of the embedding table. fp16 means
16-bit storage and fp32 arithmetic: EmbeddingGemma's activations reach 8e5, fp16 ends at 65,504.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_TINY = np.float32(1e-12)  # keeps a row of zeros from dividing by zero


def int8(matrix: Floats) -> tuple[NDArray[np.int8], Floats]:
    """(rows, width) to values between -127 and 127 and a scale per row: matrix = values * scale."""
    scale = int8_scale(matrix)
    values = np.rint(matrix / scale[:, None]).astype(np.int8)
    return values, scale


def int8_scale(matrix: Floats) -> Floats:
    """(rows, width) to (rows,): the largest value becomes 127."""
    scale: Floats = np.maximum(np.abs(matrix).max(axis=1), _TINY) / np.float32(127)
    return scale


def fp16(matrix: Floats) -> NDArray[np.float16]:
    """The nearest 16-bit values; none becomes infinite."""
    limit = np.finfo(np.float16).max
    return np.clip(matrix, -limit, limit).astype(np.float16)
