"""The native engine, through its C interface (embedder/native/engine.h).

ctypes releases the GIL during a call, so the event loop keeps running.
"""

import ctypes
import platform
import weakref
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_float, c_int32, c_uint8, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.engine_config import (
    ACTIVATIONS,
    FAMILIES,
    MAX_DENSE,
    MAX_LAYERS,
    POOLINGS,
    PRECISIONS,
    EngineConfig,
)
from embedder.errors import ForwardPassError, KernelError, LibraryError, ModelCorruptError
from embedder.postprocess import Vectors
from embedder.tokenized_text import TokenIds
from embedder.weights import Weights

_SYSTEM = platform.system().lower()
LIBRARY = (
    Path(__file__).parent / "native" / "lib" / f"{_SYSTEM}-{platform.machine()}"
    / f"libembedder.{'dylib' if _SYSTEM == 'darwin' else 'so'}"
)  # fmt: skip
_DTYPES = ("I8", "I32", "F16", "F32")  # native_dtype
_ERROR_SIZE = 256
_NO_MEMORY = -2
_MAX_THREADS = 64  # MAX_THREADS of embedder/native/pool.h
# Rows of the embedding table that are read before its pages are unmapped. The kernel maps 16 pages
# around each page that is read: 97 MB for 4,171 tokens. Mapping them again takes 1 us per row.
_ROWS_MAPPED = 1024


class _Tensor(ctypes.Structure):
    """The C struct native_tensor."""

    _fields_ = (("name", c_char_p), ("data", c_void_p), ("bytes", c_uint64), ("dtype", c_int32))


_COPIED = ("layers", "width", "ffn", "heads", "per_layer", "vocabulary", "positions", "window")


class _Config(ctypes.Structure):
    """The C struct native_config."""

    _fields_ = (
        ("family", c_int32),
        ("precision", c_int32),
        *((name, c_int32) for name in _COPIED),
        ("kv_heads", c_int32 * 2),
        ("head_dim", c_int32 * 2),
        ("activation", c_int32),
        ("pooling", c_int32),
        ("n_dense", c_int32),
        ("dense_width", c_int32 * MAX_DENSE),
        ("dense_activation", c_int32 * MAX_DENSE),
        ("sliding", c_uint8 * MAX_LAYERS),
        ("norm_epsilon", c_float),
    )


def native_config(config: EngineConfig) -> _Config:
    """native_config of engine.h."""
    dense = [ACTIVATIONS.index(word) for word in config.dense_activation]
    return _Config(
        family=FAMILIES.index(config.family),
        precision=PRECISIONS.index(config.precision),
        **{name: getattr(config, name) for name in _COPIED},
        kv_heads=(c_int32 * 2)(*config.kv_heads_by_kind),
        head_dim=(c_int32 * 2)(*config.head_dim_by_kind),
        activation=ACTIVATIONS.index(config.activation),
        pooling=POOLINGS.index(config.pooling),
        n_dense=len(dense),
        dense_width=(c_int32 * MAX_DENSE)(*config.dense_width),
        dense_activation=(c_int32 * MAX_DENSE)(*dense),
        sliding=(c_uint8 * MAX_LAYERS)(*config.sliding),
        norm_epsilon=config.norm_epsilon,
    )


@cache
def _library() -> ctypes.CDLL:
    """Raises LibraryError."""
    if not LIBRARY.is_file():
        raise LibraryError(LIBRARY, "is not built")
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.native_kernels.restype = c_char_p
        library.native_open.restype = c_void_p
        library.native_open.argtypes = (
            POINTER(_Config), POINTER(_Tensor), c_int32, c_char_p, c_int32, c_char_p, c_int32,
        )  # fmt: skip
        library.native_kernel.restype = c_char_p
        library.native_kernel.argtypes = (c_void_p,)
        library.native_dimensions.argtypes = (c_void_p,)
        library.native_embed.argtypes = (
            c_void_p, c_void_p, c_void_p, c_int32, c_void_p, c_char_p, c_int32,
        )  # fmt: skip
        library.native_close.restype = None
        library.native_close.argtypes = (c_void_p,)
    except (OSError, AttributeError) as error:
        raise LibraryError(LIBRARY, f"cannot be loaded ({error})") from error
    return library


def kernels() -> tuple[str, ...]:
    """Kernels of this build that this CPU runs, the best first.

    Raises:
        LibraryError: the library is missing, or cannot be loaded.
    """
    return tuple(_library().native_kernels().decode().split())


def check_kernel(kernel: str | None) -> None:
    """Check that a kernel runs here; None always does.

    Raises:
        KernelError: this build or this CPU does not have it.
        LibraryError: the library is missing, or cannot be loaded.
    """
    if kernel not in (None, *kernels()):
        raise KernelError(str(kernel), kernels())


class NativeEngine:
    """An open model file: token ids in, one L2-normalised vector per text out.

    Any thread may call; calls run one after the other.

    Args:
        path: the model.safetensors that download_model.py wrote.
        num_threads: compute threads, including the calling one; at most 64 are used.
        kernel: one of `kernels()`; None for the best.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelCorruptError: the file is malformed.
        ModelOutdatedError: another version wrote it.
        LibraryError: the library is missing, or cannot be loaded.
        KernelError: this build or this CPU does not have the kernel.
    """

    def __init__(self, path: Path, *, num_threads: int, kernel: str | None = None) -> None:
        library = _library()
        check_kernel(kernel)
        weights = Weights(path)
        self._config = weights.config
        self._handle = _open(library, weights, num_threads=num_threads, kernel=kernel)
        self._library = library
        self._weights, self._rows_read = weights, 0
        # Keeps the mapping until the engine is closed. Not at exit, when a pass may still run.
        weakref.finalize(self, _close, library, self._handle, weights).atexit = False
        self.kernel: str = library.native_kernel(self._handle).decode()

    @property
    def dimensions(self) -> int:
        """Values in one vector."""
        return self._config.dimensions

    def forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """(n_texts, dimensions) float32, L2-normalised, in the order given.

        Raises:
            ForwardPassError: an id or a length is out of range.
            MemoryError: there is no memory for this many tokens.
        """
        vectors = np.empty((len(token_ids), self.dimensions), np.float32)
        if not token_ids:
            return vectors
        flat, starts = self._concatenated(token_ids)
        error = ctypes.create_string_buffer(_ERROR_SIZE)
        failed = self._library.native_embed(
            self._handle, flat.ctypes.data, starts.ctypes.data, len(token_ids),
            vectors.ctypes.data, error, _ERROR_SIZE,
        )  # fmt: skip
        if failed:
            reason = error.value.decode(errors="replace")
            raise MemoryError(reason) if failed == _NO_MEMORY else ForwardPassError(reason)
        self._count_rows(len(flat))
        return vectors

    def _count_rows(self, n_tokens: int) -> None:
        self._rows_read += n_tokens
        if self._rows_read > _ROWS_MAPPED:
            self._rows_read = 0
            self._weights.unmap("embedding.weight")

    def _concatenated(
        self, token_ids: Sequence[TokenIds]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(n_tokens,) ids and (n_texts + 1,) starts. Checked before int64 is narrowed to int32."""
        flat = np.concatenate(token_ids)
        if flat.ndim != 1 or flat.dtype.kind not in "iu":
            raise ForwardPassError(
                f"token ids are whole numbers, not {flat.dtype} of {flat.ndim} axes"
            )
        lengths = [len(ids) for ids in token_ids]
        if not 0 < min(lengths) <= max(lengths) <= self._config.positions:
            raise ForwardPassError(
                f"texts have {min(lengths)} to {max(lengths)} tokens, "
                f"the model reads 1 to {self._config.positions}"
            )
        if flat.min() < 0 or flat.max() >= self._config.vocabulary:
            raise ForwardPassError(
                f"token ids are {flat.min()} to {flat.max()}, "
                f"the vocabulary has {self._config.vocabulary}"
            )
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        return np.ascontiguousarray(flat, np.int32), starts


def _open(
    library: ctypes.CDLL, weights: Weights, *, num_threads: int, kernel: str | None
) -> c_void_p:
    """Raises ModelCorruptError with the engine's reason."""
    described = [
        _Tensor(
            tensor.name.encode(),
            weights.address(tensor),
            tensor.n_bytes,
            _DTYPES.index(tensor.dtype),
        )
        for tensor in weights.tensors
    ]
    tensors = (_Tensor * len(described))(*described)
    error = ctypes.create_string_buffer(_ERROR_SIZE)
    handle = library.native_open(
        native_config(weights.config), tensors, len(tensors), kernel.encode() if kernel else None,
        min(num_threads, _MAX_THREADS), error, _ERROR_SIZE,
    )  # fmt: skip
    if not handle:
        raise ModelCorruptError(weights.path, error.value.decode(errors="replace"))
    return c_void_p(handle)


def _close(library: ctypes.CDLL, handle: c_void_p, _weights: Weights) -> None:
    library.native_close(handle)
