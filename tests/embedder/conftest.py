"""Real models: the starter model, and EmbeddingGemma's architecture with random weights."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from sentence_transformers import SentenceTransformer

from embedder.model import EmbeddingModel
from embedder.postprocess import Vectors
from embedder.prepare import build as builder
from embedder.prepare.build import build
from embedder.prepare.check_texts import CheckText
from embedder.prepare.original import load_original
from embedder.prepare.source import Source, locate
from embedder.profile import TOKENIZER_FILE
from embedder.tokens import Tokenizer
from lab.random_embeddinggemma import TINY
from lab.random_embeddinggemma import build as build_random
from tests.embedder.tokenizers_by_kind import of_kind

LoadModel = Callable[[str], EmbeddingModel]
LoadTokenizer = Callable[[str], "Pair"]


@dataclass(frozen=True)
class Pair:
    """A tokenizer of ours, and the original one that reads special tokens as text."""

    file: Path
    ours: Tokenizer
    original: tokenizers.Tokenizer


@pytest.fixture(scope="session", autouse=True)
def references() -> Iterator[None]:
    """The vectors of an original are computed once for all its preparations of a session."""
    known: dict[object, Vectors] = {}
    compute = builder._reference

    def once(model: SentenceTransformer, source: Source, texts: Sequence[CheckText]) -> Vectors:
        key = (source.model_id, source.revision, tuple(texts))
        if key not in known:
            known[key] = compute(model, source, texts)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "_reference", once)
        yield


def prepare(
    source: Source, target: Path, quantization: str, backend: str = "native"
) -> EmbeddingModel:
    """Prepare a model as download_model.py does, but without the store."""
    target.mkdir(exist_ok=True)
    build(source, target, quantization=quantization, backend=backend).save(target)
    return EmbeddingModel.load(target, num_threads=2, batch_tokens=256)


@contextmanager
def fewer_check_texts() -> Iterator[None]:
    """Every twelfth text of the quality check, for tests of what is not the check."""
    texts = builder._check_texts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "_check_texts", lambda *given: texts(*given)[::12])
        yield


@pytest.fixture(scope="session")
def starter_source() -> Source:
    return locate(None)


@pytest.fixture(scope="session")
def gemma_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Seven layers of both kinds of attention, a window of 8 tokens per side, two Dense layers."""
    return locate(str(build_random(tmp_path_factory.mktemp("gemma") / "tiny", TINY)))


@pytest.fixture(scope="session")
def starter_original(starter_source: Source) -> SentenceTransformer:
    return load_original(starter_source)


@pytest.fixture(scope="session")
def gemma_original(gemma_source: Source) -> SentenceTransformer:
    return load_original(gemma_source)


@pytest.fixture(scope="session")
def starter_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the starter model in fp32, once `starter` has prepared it."""
    return tmp_path_factory.mktemp("starter-prepared") / "fp32"


@pytest.fixture(scope="session")
def starter(starter_directory: Path, starter_source: Source) -> LoadModel:
    """The starter model by precision, each prepared once."""
    return _once(starter_directory.parent, starter_source)


@pytest.fixture(scope="session")
def gemma_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the tiny random EmbeddingGemma in fp32, once `gemma` has prepared it."""
    return tmp_path_factory.mktemp("gemma-prepared") / "fp32"


@pytest.fixture(scope="session")
def gemma(gemma_directory: Path, gemma_source: Source) -> LoadModel:
    """The tiny random EmbeddingGemma by precision, each prepared once."""
    return _once(gemma_directory.parent, gemma_source)


def _once(directory: Path, source: Source) -> LoadModel:
    models: dict[str, EmbeddingModel] = {}

    def load(quantization: str) -> EmbeddingModel:
        if quantization not in models:
            models[quantization] = prepare(source, directory / quantization, quantization)
        return models[quantization]

    return load


@pytest.fixture(scope="session")
def load(
    starter_source: Source, gemma_source: Source, tmp_path_factory: pytest.TempPathFactory
) -> LoadTokenizer:
    """Tokenizers by kind, each made once."""
    directory = tmp_path_factory.mktemp("tokenizers")

    @cache
    def of(kind: str) -> Pair:
        file = of_kind(
            kind,
            starter=starter_source.directory / TOKENIZER_FILE,
            small_gemma=gemma_source.directory / TOKENIZER_FILE,
            directory=directory,
        )
        original = tokenizers.Tokenizer.from_file(str(file))
        original.no_padding()
        original.no_truncation()
        original.encode_special_tokens = True
        return Pair(file, Tokenizer.from_file(file), original)

    return of
