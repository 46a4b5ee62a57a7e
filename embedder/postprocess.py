"""Vectors as callers ask for them: cut to fewer dimensions, length one again."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]  # (n_texts, dimensions), L2-normalised


def normalise(vectors: NDArray[np.float32]) -> Vectors:
    """Divide each row by its L2 norm; a row of zeros stays zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: Vectors = (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
    return normalised


def cut(vectors: Vectors, dimensions: int) -> Vectors:
    """Keep the first `dimensions` of each row and normalise again (Matryoshka, arXiv:2205.13147).

    Raises ValueError when `dimensions` is not between 1 and the width of the rows.
    """
    width = vectors.shape[1]
    if not 1 <= dimensions <= width:
        raise ValueError(f"dimensions must be between 1 and {width}, not {dimensions}")
    return vectors if dimensions == width else normalise(vectors[:, :dimensions])
