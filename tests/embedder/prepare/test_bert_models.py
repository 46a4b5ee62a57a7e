"""Models that people use, in their real shapes with random weights, against the originals."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedder.model import EmbeddingModel
from embedder.postprocess import normalise
from embedder.prepare.original import load_original, max_tokens
from embedder.prepare.sentences import SENTENCES, long_text
from embedder.prepare.source import Source
from embedder.prepare.verify import compare, cosines
from lab.bert_models import SHAPES, random_model
from lab.random_bert import build
from tests.embedder.conftest import fewer_check_texts, prepare
from tests.embedder.prepare.test_families import engine, original

SEARCH = "Represent this sentence for searching relevant passages: "
# From the model cards: the prompt of a query and of a document.
PROMPTS: Mapping[str, tuple[str, str]] = {
    "gte-small": ("", ""),
    "bge-small-en": (SEARCH, ""),
    "bge-small-en-v1.5": (SEARCH, ""),
    "bge-base-en": (SEARCH, ""),
    "bge-base-en-v1.5": (SEARCH, ""),
    "bge-m3": ("", ""),
    "multilingual-e5-small": ("query: ", "passage: "),
    "multilingual-e5-base": ("query: ", "passage: "),
    "multilingual-e5-large": ("query: ", "passage: "),
    "paraphrase-multilingual-MiniLM-L12-v2": ("", ""),
    "snowflake-arctic-embed-xs": (SEARCH, ""),
    "snowflake-arctic-embed-s": (SEARCH, ""),
    "snowflake-arctic-embed-m": (SEARCH, ""),
    "snowflake-arctic-embed-m-v1.5": (SEARCH, ""),
    "snowflake-arctic-embed-l": (SEARCH, ""),
    "snowflake-arctic-embed-l-v2.0": ("query: ", ""),
}
TEXTS = [*SENTENCES[::3], long_text(4)]
UNPADDED: Mapping[str, Any] = {"batch_size": 1}  # or each text costs as much as the longest


@dataclass(frozen=True)
class Pair:
    """A model as it was prepared in fp32, and its original."""

    prepared: EmbeddingModel
    original: SentenceTransformer
    directory: Path


@pytest.fixture(scope="module", params=SHAPES)
def pair(
    request: pytest.FixtureRequest,
    starter_source: Source,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    directory = tmp_path_factory.mktemp("bert")
    source = random_model(request.param, directory, wordpiece=starter_source.directory)
    with fewer_check_texts():  # the models are wide, and tests compare their vectors as well
        prepared = prepare(source, directory / "prepared", "fp32")
    return Pair(prepared, load_original(source), directory)


def test_each_task_gives_the_originals_vectors_with_the_prompt_of_the_model_card(
    pair: Pair,
) -> None:
    tasks = pair.prepared.profile.tasks
    prompts = dict(zip(("query", "document"), PROMPTS[pair.prepared.profile.model_id], strict=True))
    assert {task: tasks[task] for task in prompts} == prompts
    for prompt in {"", *prompts.values()}:
        expected = normalise(pair.original.encode(TEXTS, prompt=prompt, **UNPADDED))
        assert cosines(pair.prepared.embed(TEXTS, prompt), expected).min() >= 0.999999


def test_the_quality_check_finds_no_difference_in_fp32(pair: Pair) -> None:
    assert pair.prepared.profile.verification["to_original"]["min_cosine"] >= 0.999999


def test_the_limit_is_the_original_models(pair: Pair) -> None:
    shape = SHAPES[pair.prepared.profile.model_id]
    assert pair.prepared.max_tokens == max_tokens(pair.original) == shape.max_tokens


def test_int8_is_close_to_the_original_without_a_calibration(pair: Pair) -> None:
    tokens = pair.prepared.tokenizer.encode(TEXTS, max_tokens=pair.prepared.max_tokens)
    vectors = engine(pair.original, pair.directory, "int8").forward([text.ids for text in tokens])
    found = compare(vectors, normalise(pair.original.encode(TEXTS, **UNPADDED)))
    assert found.mean_cosine > 0.999
    assert found.min_cosine > 0.997


def test_a_model_reads_8192_tokens_with_positions_that_begin_at_two(
    starter_source: Source, tmp_path: Path
) -> None:
    """Narrow, since attention to 8,192 tokens takes long; the positions are those of bge-m3."""
    source = build(
        tmp_path, "xlm-roberta", starter_source.directory, max_tokens=8192,
        max_position_embeddings=8194, type_vocab_size=1, num_hidden_layers=1,
    )  # fmt: skip
    model = load_original(source)
    assert max_tokens(model) == 8192
    ids = np.random.default_rng(0).integers(4, 1000, 8192)
    vectors = engine(model, tmp_path).forward([ids, ids[:513]])
    np.testing.assert_allclose(vectors, original(model, [ids, ids[:513]]), atol=2e-6)
