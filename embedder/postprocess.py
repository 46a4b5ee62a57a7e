"""Vectors as callers want them: truncated to fewer dimensions, and encoded."""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]  # (n_texts, dimensions), L2-normalised
ENCODED_AT_ONCE = 16  # vectors; base64 of one with 768 dimensions has 4 KB and takes 4 us
Encoded: TypeAlias = NDArray[np.generic] | list[str]  # one row per text


def normalise(vectors: NDArray[np.float32]) -> Vectors:
    """Divide each row by its L2 norm; a row of zeros stays zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: Vectors = (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(
        np.float32
    )
    return normalised


def truncate_vectors(vectors: Vectors, dimensions: int) -> Vectors:
    """Keep the first `dimensions` of each row and normalise again (Matryoshka, arXiv:2205.13147).

    Raises:
        ValueError: `dimensions` is not between 1 and the width of the rows.
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
    """Scale each row so that its largest |value| becomes 127, and round.

    The scale differs by row and is not stored: dividing a row by its length gives the unit vector
    again. No calibration is needed.
    """
    # The lower bound keeps a row of zeros from dividing by zero.
    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.float32(1e-12))
    steps: NDArray[np.int8] = np.rint(vectors * (127 / largest)).astype(np.int8)
    return steps


def to_binary(vectors: Vectors) -> NDArray[np.uint8]:
    """(n_texts, dimensions / 8). One bit per dimension, highest bit first; 1 if positive."""
    return np.packbits(vectors > 0, axis=1)


def to_signed_binary(vectors: Vectors) -> NDArray[np.int8]:
    """`to_binary` as signed numbers: 128 less each (offset binary)."""
    signed: NDArray[np.int8] = (to_binary(vectors) ^ np.uint8(128)).view(np.int8)
    return signed


def to_uint8(vectors: Vectors) -> NDArray[np.uint8]:
    """`to_int8` as unsigned numbers: 128 more each."""
    unsigned: NDArray[np.uint8] = to_int8(vectors).view(np.uint8) ^ np.uint8(128)
    return unsigned


ENCODINGS: Mapping[str, Callable[[Vectors], Encoded]] = {
    "float": lambda vectors: vectors,
    "base64": to_base64,
    "int8": to_int8,
    "uint8": to_uint8,
    "binary": to_binary,
    "signed_binary": to_signed_binary,
}


def encoded(vectors: Vectors, encoding: str) -> Iterator[NDArray[np.generic] | str]:
    """Each row in one of `ENCODINGS`, encoded lazily."""
    for start in range(0, len(vectors), ENCODED_AT_ONCE):
        yield from ENCODINGS[encoding](vectors[start : start + ENCODED_AT_ONCE])
