"""The engine of this project."""

from typing import Any

from benchmarks.peers import Embed
from lab.models import RANDOM, prepared

PACKAGE = None


def prepare(*, precision: str = "int8", model: str = "embeddinggemma", **_: Any) -> None:
    prepared(str(RANDOM[model]()), precision)


def load(
    threads: int,
    *,
    precision: str = "int8",
    model: str = "embeddinggemma",
    kernel: str | None = None,
) -> Embed:
    from embedder.model import EmbeddingModel

    directory = prepared(str(RANDOM[model]()), precision)
    return EmbeddingModel.load(directory, num_threads=threads, kernel=kernel).engine.forward
