"""Texts over the model's limit: what is done with them, and the vector of their windows."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from embedder.postprocess import Vectors

# What is done with a text over the limit: cut it there, refuse it, or read it in windows and
# average their vectors.
Overflow: TypeAlias = Literal["truncate", "error", "average"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
TRUNCATE, ERROR, AVERAGE = OVERFLOWS


def average(vectors: Vectors, weights: Sequence[Sequence[int]]) -> Vectors:
    """One vector per text from the vectors of its windows.

    A text in one window keeps its vector. The bits of a mean depend on nothing but its windows:
    they are added in their order in float64, and the length is the exact sum, rounded once.

    Args:
        vectors: (n_windows, dimensions), the windows of each text one after the other.
        weights: of the windows of each text.

    Returns:
        (n_texts, dimensions), L2-normalised.
    """
    if len(vectors) == len(weights):
        return vectors
    ends = [*accumulate(map(len, weights))]
    rows = [
        _mean(vectors[end - len(text) : end], text) for end, text in zip(ends, weights, strict=True)
    ]
    return np.stack(rows)


def _mean(vectors: Vectors, weights: Sequence[int]) -> NDArray[np.float32]:
    if len(weights) == 1:
        only: NDArray[np.float32] = vectors[0]
        return only
    total = np.zeros(vectors.shape[1], np.float64)
    for vector, weight in zip(vectors, weights, strict=True):
        total += weight * vector.astype(np.float64)
    length = math.sqrt(math.fsum(total * total))
    mean: NDArray[np.float32] = (total / max(length, np.finfo(np.float64).tiny)).astype(np.float32)
    return mean
