"""One vector as bytes, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedder.postprocess import normalise

Precision = Literal["float32", "float16"]
DTYPES: Mapping[Precision, str] = {"float32": "<f4", "float16": "<f2"}


@dataclass(frozen=True, slots=True)
class Values:
    """float32 keeps every bit; float16 takes half as much space."""

    precision: Precision
    dimensions: int

    @property
    def size(self) -> int:
        """Bytes of one vector."""
        return self.dimensions * np.dtype(DTYPES[self.precision]).itemsize

    def pack(self, row: NDArray[np.float32]) -> bytes:
        """The bytes of a vector, (dimensions,)."""
        return row.astype(DTYPES[self.precision], copy=False).tobytes()

    def unpack(self, value: bytes) -> NDArray[np.float32]:
        """(dimensions,) float32, L2-normalised."""
        row = np.frombuffer(value, DTYPES[self.precision]).astype(np.float32, copy=False)
        return row if self.precision == "float32" else normalise(row[None])[0]
