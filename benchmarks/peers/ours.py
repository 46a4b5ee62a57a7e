"""The engine of this project."""

from typing import Any

from benchmarks.peers import Embed
from lab.models import prepared, random_embeddinggemma

PACKAGE = None


def prepare(*, precision: str = "int8", **_: Any) -> None:
    prepared(str(random_embeddinggemma()), precision)


def load(threads: int, *, precision: str = "int8", kernel: str | None = None) -> Embed:
    from embedder.model import EmbeddingModel

    directory = prepared(str(random_embeddinggemma()), precision)
    return EmbeddingModel.load(directory, num_threads=threads, kernel=kernel).engine.forward
