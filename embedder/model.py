"""A prepared model, loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedder.postprocess import Vectors
from embedder.profile import GRAPH_FILE, TOKENIZER_FILE, TORCH_DIRECTORY, Profile
from embedder.tokens import TokenIds, Tokenizer


class Engine(Protocol):
    """Token ids to vectors, the one thing a backend does."""

    def embed(self, token_ids: Sequence[TokenIds]) -> Vectors: ...


@dataclass(frozen=True)
class EmbeddingModel:
    """Everything between a text and its vector. `max_tokens` counts special tokens."""

    profile: Profile
    tokenizer: Tokenizer
    engine: Engine
    max_tokens: int

    @classmethod
    def load(
        cls, directory: Path, *, num_threads: int, max_tokens: int | None = None, batch_tokens: int = 256
    ) -> "EmbeddingModel":
        """Read what download_model.py wrote.

        `max_tokens` lowers the model's own limit and cannot raise it. Raises ModelNotFoundError,
        ModelCorruptError, ModelOutdatedError, or BackendError when the backend is not installed.
        """
        profile = Profile.load(directory)
        profile.check_files(directory)
        # ONNX Runtime's RotaryEmbedding takes no more rows than the model has positions, whosoever they are.
        pack_tokens = min(batch_tokens, profile.max_tokens)
        return cls(
            profile=profile,
            tokenizer=Tokenizer.from_file(directory / TOKENIZER_FILE),
            engine=ENGINES[profile.backend](directory, profile, num_threads, pack_tokens),
            max_tokens=min(max_tokens or profile.max_tokens, profile.max_tokens),
        )

    def embed(self, texts: Sequence[str], prompt: str = "") -> Vectors:
        """(n_texts, dimensions) float32, L2-normalised; `prompt` is put in front of every text."""
        tokens = self.tokenizer.encode(texts, prompt=prompt, max_tokens=self.max_tokens)
        return self.engine.embed([text.ids for text in tokens])


def _onnx(directory: Path, profile: Profile, num_threads: int, batch_tokens: int) -> Engine:
    from embedder.onnx_engine import OnnxEngine  # 35 MB, which the supervising process of the service never needs

    return OnnxEngine(directory / GRAPH_FILE, num_threads=num_threads, batch_tokens=batch_tokens, window=profile.window)


def _torch(directory: Path, profile: Profile, num_threads: int, batch_tokens: int) -> Engine:
    from embedder.torch_engine import TorchEngine  # torch takes seconds and 500 MB; the ONNX backend never pays

    return TorchEngine(directory / TORCH_DIRECTORY, num_threads=num_threads, batch_tokens=batch_tokens)


ENGINES: dict[str, Callable[[Path, Profile, int, int], Engine]] = {"onnx": _onnx, "torch": _torch}
