"""A prepared model, loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from embedder.packing import embed_packs
from embedder.postprocess import Vectors
from embedder.profile import TOKENIZER_FILE, TORCH_DIRECTORY, WEIGHTS_FILE, Profile
from embedder.tokens import TokenIds, Tokenizer


class Engine(Protocol):
    """Token ids to vectors in one forward pass, the one thing a backend does."""

    kernel: str  # what computes: an instruction set of the native engine, or torch's device

    def embed(self, token_ids: Sequence[TokenIds]) -> Vectors: ...


@dataclass(frozen=True)
class EmbeddingModel:
    """Everything between a text and its vector. `max_tokens` counts special tokens."""

    profile: Profile
    tokenizer: Tokenizer
    engine: Engine
    max_tokens: int
    batch_tokens: int

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        num_threads: int,
        max_tokens: int | None = None,
        batch_tokens: int = 256,
        kernel: str | None = None,
    ) -> "EmbeddingModel":
        """Read what download_model.py wrote.

        Args:
            directory: a prepared model.
            num_threads: compute threads.
            max_tokens: lowers the model's own limit and cannot raise it.
            batch_tokens: tokens in one forward pass of `embed`.
            kernel: of the native engine; None for the best.

        Raises:
            ModelNotFoundError, ModelCorruptError, ModelOutdatedError: of the directory.
            BackendError: the backend is not installed, or the kernel does not run here.
        """
        profile = Profile.load(directory)
        profile.check_files(directory)
        return cls(
            profile=profile,
            tokenizer=Tokenizer.from_file(directory / TOKENIZER_FILE),
            engine=ENGINES[profile.backend](directory, num_threads, kernel),
            max_tokens=min(max_tokens or profile.max_tokens, profile.max_tokens),
            batch_tokens=batch_tokens,
        )

    def embed(self, texts: Sequence[str], prompt: str = "") -> Vectors:
        """(n_texts, dimensions) float32, L2-normalised; `prompt` is put in front of every text."""
        tokens = self.tokenizer.encode(texts, prompt=prompt, max_tokens=self.max_tokens)
        return self.embed_tokens([text.ids for text in tokens])

    def embed_tokens(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """The same of any number of tokenised texts, `batch_tokens` to a forward pass."""
        if not token_ids:
            return np.empty((0, self.profile.dimensions), np.float32)
        return embed_packs(self.engine.embed, token_ids, budget=self.batch_tokens)


def check_backend(backend: str, *, kernel: str | None) -> None:
    """Raises BackendError when the native library is not built or does not have that kernel."""
    if backend == "native":
        from embedder.native_engine import check_kernel

        check_kernel(kernel)


def _native(directory: Path, num_threads: int, kernel: str | None) -> Engine:
    from embedder.native_engine import NativeEngine

    return NativeEngine(directory / WEIGHTS_FILE, num_threads=num_threads, kernel=kernel)


def _torch(directory: Path, num_threads: int, _: str | None) -> Engine:
    from embedder.torch_engine import TorchEngine  # takes seconds and 500 MB; native never pays

    return TorchEngine(directory / TORCH_DIRECTORY, num_threads=num_threads)


ENGINES: dict[str, Callable[[Path, int, str | None], Engine]] = {"native": _native, "torch": _torch}
