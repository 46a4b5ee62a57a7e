"""Vectors as callers ask for them: cut to fewer dimensions, length one again, in the encoding they want."""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]  # (n_texts, dimensions), L2-normalised
ENCODED_AT_ONCE = 16  # vectors: base64 of 768 dimensions is 4 KB, and takes 4 us
Encoded: TypeAlias = NDArray[np.generic] | list[str]  # one row per text


def normalise(vectors: NDArray[np.float32]) -> Vectors:
    """Divide each row by its L2 norm; a row of zeros stays zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: Vectors = (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(
        np.float32
    )
    return normalised


def cut(vectors: Vectors, dimensions: int) -> Vectors:
    """Keep the first `dimensions` of each row and normalise again (Matryoshka, arXiv:2205.13147).

    Raises ValueError when `dimensions` is not between 1 and the width of the rows.
    """
    width = vectors.shape[1]
    if not 1 <= dimensions <= width:
        raise ValueError(f"dimensions must be between 1 and {width}, not {dimensions}")
    return vectors if dimensions == width else normalise(vectors[:, :dimensions])


def to_base64(vectors: Vectors) -> list[str]:
    """Each row's float32 values, little-endian, in base64."""
    return [
        base64.b64encode(row.tobytes()).decode() for row in np.ascontiguousarray(vectors, "<f4")
    ]


def to_int8(vectors: Vectors) -> NDArray[np.int8]:
    """Each row times what makes its largest value 127, rounded: a direction, whose length says nothing.

    A row's own scale needs no calibration and no column beside it: dividing a row by its length gives
    the vector back.
    """
    largest = np.maximum(
        np.abs(vectors).max(axis=1, keepdims=True), np.float32(1e-12)
    )  # a row of zeros stays zeros
    steps: NDArray[np.int8] = np.rint(vectors * (127 / largest)).astype(np.int8)
    return steps


def to_binary(vectors: Vectors) -> NDArray[np.uint8]:
    """(n_texts, dimensions / 8): one bit a dimension, set where it is positive, the first is the highest."""
    return np.packbits(vectors > 0, axis=1)


ENCODINGS: Mapping[str, Callable[[Vectors], Encoded]] = {
    "float": lambda vectors: vectors,
    "base64": to_base64,
    "int8": to_int8,
    "binary": to_binary,
}


def encoded(vectors: Vectors, encoding: str) -> Iterator[NDArray[np.generic] | str]:
    """Each row in one of `ENCODINGS`, made when it is asked for."""
    for start in range(0, len(vectors), ENCODED_AT_ONCE):
        yield from ENCODINGS[encoding](vectors[start : start + ENCODED_AT_ONCE])
