"""The parts of a model file: matrices of products, an embedding table, vectors.

Each part declares its tensors first, and makes them only when the file is written. So no more than
one matrix, or a chunk of the table, is in memory besides the original model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.prepare.layout import DEPTH, LANES, float_panels, int8_panels, padded, rounded
from embedder.prepare.quantise import Floats, fp16, int8, int8_for_inputs, int8_scale
from embedder.prepare.rotation import against_rotated_inputs, block_size, rotated_gram

Array = NDArray[np.generic]
DTYPES = {"int8": "I8", "fp16": "F16", "fp32": "F32"}
TABLE_CHUNK = 8192  # rows of an embedding table that are converted at a time


@dataclass(frozen=True, slots=True)
class Declared:
    """A tensor as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Weight(Protocol):
    """Tensors that are made together."""

    def declared(self, precision: str) -> list[Declared]:
        """The tensors, in the order of the file."""
        ...

    def arrays(self, precision: str) -> Iterator[Array]:
        """Their values in the same order, in one or more pieces."""
        ...


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A product y = x @ matrix.T + bias.

    The engine rotates x in blocks before it rounds it to int8.

    Attributes:
        name: of the product, a prefix of its tensors' names.
        n: outputs.
        k: inputs.
        matrix: makes the weights, (n, k).
        bias: (n,), or None.
        gram: makes x.T @ x, (k, k), of the calibration's texts; None without a calibration.
        rotated_by: block size of a rotation that the layer before has applied to x, and that
            `matrix` undoes; the engine then does not rotate x.
    """

    name: str
    n: int
    k: int
    matrix: Callable[[], Floats]
    bias: Floats | None = None
    gram: Callable[[], Floats | None] = lambda: None
    rotated_by: int | None = None

    def declared(self, precision: str) -> list[Declared]:
        """Its tensors in the model file."""
        n, k = rounded(self.n), rounded(self.k)
        shape: tuple[int, ...] = (n // LANES, k, LANES)
        scales = []
        if precision == "int8":
            shape = (n // LANES, k // DEPTH, LANES, DEPTH)
            scales = [
                Declared(f"{self.name}.scale", "F32", (n,)),
                Declared(f"{self.name}.sum", "I32", (n,)),
            ]
        tensors = [Declared(f"{self.name}.weight", DTYPES[precision], shape), *scales]
        if self.bias is not None:
            tensors.append(Declared(f"{self.name}.bias", "F32", (n,)))
        return tensors

    def arrays(self, precision: str) -> Iterator[Array]:
        """Their values."""
        matrix = padded(self.matrix(), rounded(self.n), rounded(self.k))
        if precision == "int8":
            yield from self._int8(matrix)
        else:
            yield float_panels(fp16(matrix) if precision == "fp16" else matrix)
        if self.bias is not None:
            yield padded(self.bias, len(matrix))

    def _int8(self, matrix: Floats) -> Iterator[Array]:
        k, gram = matrix.shape[1], self.gram()
        if self.rotated_by is None:
            matrix = against_rotated_inputs(matrix)
        if gram is None:
            values, scale = int8(matrix)
        else:
            size = self.rotated_by or block_size(k)
            values, scale = int8_for_inputs(matrix, rotated_gram(padded(gram, k, k), size))
        scale[self.n :] = 0
        yield int8_panels(values)
        yield scale
        yield values.sum(axis=1, dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Embeddings by token id, (vocabulary, width), times `factor`.

    It is the last tensor of the file, because its size need not be a multiple of 64 bytes.
    """

    name: str
    table: Floats
    factor: float = 1.0

    def declared(self, precision: str) -> list[Declared]:
        """Its tensors in the model file."""
        weight = Declared(f"{self.name}.weight", DTYPES[precision], self.table.shape)
        scale = Declared(f"{self.name}.scale", "F32", (rounded(len(self.table)),))
        return [scale, weight] if precision == "int8" else [weight]

    def arrays(self, precision: str) -> Iterator[Array]:
        """Their values."""
        if precision == "int8":
            scale = np.concatenate([int8_scale(chunk) for chunk in self._chunks()])
            yield padded(scale * np.float32(self.factor), rounded(len(scale)))
        for chunk in self._chunks():
            if precision == "int8":
                yield int8(chunk)[0]
            else:
                floats = chunk * np.float32(self.factor)
                yield fp16(floats) if precision == "fp16" else floats

    def _chunks(self) -> Iterator[Floats]:
        for start in range(0, len(self.table), TABLE_CHUNK):
            yield self.table[start : start + TABLE_CHUNK]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """fp32 in every precision: norms, angles, positions. The first axis is padded to 16."""

    name: str
    values: Floats

    def declared(self, precision: str) -> list[Declared]:
        """Its tensors in the model file."""
        return [Declared(self.name, "F32", (rounded(len(self.values)), *self.values.shape[1:]))]

    def arrays(self, precision: str) -> Iterator[Array]:
        """Their values."""
        yield padded(self.values, rounded(len(self.values)), *self.values.shape[1:])
