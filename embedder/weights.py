"""The weights of a prepared model: a safetensors file, mapped read-only and checked before use.

The format (https://huggingface.co/docs/safetensors): 8 bytes with the length of a JSON header, the
header, then the tensors without holes. Ours are aligned to 64 bytes, so that every kernel can read
them in place.
"""

import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from embedder.engine_config import EngineConfig
from embedder.errors import ModelCorruptError, ModelNotFoundError, ModelOutdatedError
from embedder.profile import LAYOUT

FORMAT: Final = "embedding-api native"
ALIGNMENT: Final = 64  # bytes: a cache line, and one AVX-512 register
DTYPES: Final[Mapping[str, int]] = {"I8": 1, "I32": 4, "F16": 2, "F32": 4}  # bytes per value
LENGTH_BYTES = 8  # of the header, before it
MAX_HEADER: Final = 4 << 20  # bytes; 64 layers need 0.1 MB
_NAME = re.compile(r"[a-z0-9_.]{1,128}")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file, `offset` bytes from its start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of its values."""
        return prod(self.shape) * DTYPES[self.dtype]


class Weights:
    """The mapped file. Addresses are valid as long as this object exists.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelCorruptError: the file is malformed.
        ModelOutdatedError: it has another layout number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = _map(path)
        self._address = np.frombuffer(self._map, np.uint8).ctypes.data
        try:
            header, begin = _read_header(self._map)
            self.config = _read_metadata(path, header.pop("__metadata__", None))
            self.tensors = _read_tensors(header, begin=begin, end=len(self._map))
        except ValueError as error:
            raise ModelCorruptError(path, str(error)) from None

    def address(self, tensor: Tensor) -> int:
        """Address of a tensor's first byte in memory."""
        return self._address + tensor.offset

    def unmap(self, name: str) -> None:
        """Unmap a tensor's pages. They stay in the page cache, and are mapped again when read."""
        tensor = next(tensor for tensor in self.tensors if tensor.name == name)
        begin = -(-tensor.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (tensor.offset + tensor.n_bytes - begin) // mmap.PAGESIZE * mmap.PAGESIZE
        if size > 0:
            self._map.madvise(mmap.MADV_DONTNEED, begin, size)


def _map(path: Path) -> mmap.mmap:
    """The whole file. Raises ModelNotFoundError, ModelCorruptError."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelNotFoundError(path) from None
    except ValueError:  # mmap raises it for an empty file
        raise ModelCorruptError(path, "it is empty") from None
    except OSError as error:
        raise ModelCorruptError(path, str(error.strerror)) from None


def _read_header(data: mmap.mmap) -> tuple[dict[str, Any], int]:
    """The header and the offset of the first tensor. Raises ValueError."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES or length > min(MAX_HEADER, len(data) - LENGTH_BYTES):
        raise ValueError("it is truncated, or not a safetensors file")
    try:
        header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
    except (ValueError, RecursionError):
        raise ValueError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header, LENGTH_BYTES + length


def _read_metadata(path: Path, metadata: object) -> EngineConfig:
    """Raises ValueError, or ModelOutdatedError for another layout number."""
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"it is not in the format {FORMAT!r}")
    if metadata.get("layout") != str(LAYOUT):
        raise ModelOutdatedError(path)
    try:
        return EngineConfig.from_json(metadata.get("config", ""))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"its configuration cannot be used: {error}") from None


def _read_tensors(header: Mapping[str, object], *, begin: int, end: int) -> tuple[Tensor, ...]:
    """The tensors in the order of the file, which they fill without a hole. Raises ValueError."""
    placed = sorted((_read_tensor(*item, begin=begin) for item in header.items()), key=_offset)
    reached = begin
    for tensor in placed:
        if tensor.offset != reached:
            raise ValueError(f"there is a hole or an overlap before {tensor.name}")
        reached += tensor.n_bytes
    if reached != end:
        raise ValueError(f"its tensors end at byte {reached} and the file at {end}")
    return tuple(placed)


def _offset(tensor: Tensor) -> int:
    return tensor.offset


def _read_tensor(name: str, entry: object, *, begin: int) -> Tensor:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"it has a tensor of the name {name[:40]!r}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header says nothing useful of {name}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name} has dtype {str(dtype)[:40]!r}, not one of {', '.join(DTYPES)}")
    has_place = _are_counts(offsets, least=0) and len(offsets) == 2  # noqa: PLR2004 (begin, end)
    if not _are_counts(shape, least=1) or not has_place:
        raise ValueError(f"{name} has no shape, or no place in the file")
    tensor = Tensor(name, dtype, tuple(shape), begin + offsets[0])
    if tensor.n_bytes != offsets[1] - offsets[0]:
        raise ValueError(f"{name} has {offsets[1] - offsets[0]} bytes and the shape {shape}")
    if tensor.offset % ALIGNMENT:
        raise ValueError(f"{name} is not aligned to {ALIGNMENT} bytes")
    return tensor


def _are_counts(values: object, *, least: int) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and value >= least for value in values
    )
