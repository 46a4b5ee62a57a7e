"""A prepared model, loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from embedder.errors import NoTorchError
from embedder.postprocess import Vectors
from embedder.profile import TOKENIZER_FILE, TORCH_DIRECTORY, WEIGHTS_FILE, Profile
from embedder.tokenized_text import TokenIds
from embedder.tokens import Tokenizer


class Engine(Protocol):
    """Token ids to vectors: what a backend does."""

    kernel: str  # an instruction set of the native engine, or the device of torch

    def forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """(n_texts, dimensions) float32, L2-normalised, in the order given."""
        ...


@dataclass(frozen=True)
class EmbeddingModel:
    """Everything between a text and its vector. `max_tokens` counts special tokens."""

    profile: Profile
    tokenizer: Tokenizer
    engine: Engine
    max_tokens: int

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
        """Load a model that download_model.py prepared.

        Args:
            directory: a prepared model.
            num_threads: compute threads.
            max_tokens: lowers the model's own limit and cannot raise it.
            batch_tokens: tokens in one padded batch, of the torch backend.
            kernel: of the native engine; None for the best.

        Raises:
            ModelNotFoundError: there is no prepared model.
            ModelCorruptError: a file has changed, or is malformed.
            ModelOutdatedError: another version prepared it.
            BackendError: the backend is not installed, or the kernel does not run here.
        """
        profile = Profile.load(directory)
        profile.check_files(directory)
        return cls(
            profile=profile,
            tokenizer=Tokenizer.from_file(directory / TOKENIZER_FILE),
            engine=_engine(
                directory,
                profile.backend,
                num_threads=num_threads,
                batch_tokens=batch_tokens,
                kernel=kernel,
            ),
            max_tokens=min(max_tokens or profile.max_tokens, profile.max_tokens),
        )

    def embed(self, texts: Sequence[str], prompt: str = "") -> Vectors:
        """(n_texts, dimensions) float32, L2-normalised; `prompt` is put in front of every text."""
        tokens = self.tokenizer.encode(texts, prompt=prompt, max_tokens=self.max_tokens)
        return self.engine.forward([text.ids for text in tokens])


def check_backend(backend: str, *, kernel: str | None) -> None:
    """Check before a start that a backend can run.

    Raises:
        BackendError: the native library is not built, or does not have that kernel; or torch is
            not installed.
    """
    if backend == "native":
        from embedder.native_engine import check_kernel

        check_kernel(kernel)
    elif find_spec("torch") is None:
        raise NoTorchError


def _engine(
    directory: Path, backend: str, *, num_threads: int, batch_tokens: int, kernel: str | None
) -> Engine:
    """Imports only the backend that is used: torch takes seconds and 500 MB."""
    if backend == "torch":
        from embedder.torch_engine import TorchEngine

        return TorchEngine(
            directory / TORCH_DIRECTORY, num_threads=num_threads, batch_tokens=batch_tokens
        )
    from embedder.native_engine import NativeEngine

    return NativeEngine(directory / WEIGHTS_FILE, num_threads=num_threads, kernel=kernel)
