"""Vectors as bytes: float32 loses nothing, float16 little."""

import numpy as np
from numpy.typing import NDArray

from cache.values import Values
from embedder.postprocess import normalise

DIMENSIONS = 768


def vectors() -> NDArray[np.float32]:
    rows = np.random.default_rng(1).standard_normal((500, DIMENSIONS)).astype(np.float32)
    rows[0, 1:] = 0  # one large value
    return normalise(rows)


def test_float32_keeps_every_bit() -> None:
    values = Values("float32", DIMENSIONS)
    for row in vectors():
        packed = values.pack(row)
        assert len(packed) == values.size == 4 * DIMENSIONS
        assert values.unpack(packed).tobytes() == row.tobytes()


def test_float16_takes_half_and_keeps_length_and_direction() -> None:
    values = Values("float16", DIMENSIONS)
    for row in vectors():
        packed = values.pack(row)
        assert len(packed) == values.size == 2 * DIMENSIONS
        read = values.unpack(packed)
        assert abs(float(np.linalg.norm(read)) - 1) < 1e-6
        assert float(read.astype(np.float64) @ row) > 1 - 2e-7
        assert np.abs(read - row).max() < 0.0005 * np.abs(row).max() + 1e-7
