"""int8 with activations as large as those of trained models: why balance and rotation exist."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedder.prepare.original import Case, load_original, original_vectors
from embedder.prepare.quality import FLOORS
from embedder.prepare.sentences import SENTENCES
from embedder.prepare.source import Source, locate
from embedder.prepare.verify import Agreement, compare
from lab.random_embeddinggemma import BOS, SINK, Size, build
from tests.embedder.conftest import prepare
from tests.embedder.prepare.simulated_int8 import simulated

# As wide as the blocks of EmbeddingGemma's rotation: 128 inputs, 128 values of a head.
WIDE = Size(
    layers=7, hidden=384, ffn=512, heads=3, head_dim=128, sliding_window=16,
    vocabulary=1024, max_tokens=1024, dense=768,
)  # fmt: skip
CASES = [Case("", text) for text in SENTENCES]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return locate(str(build(tmp_path_factory.mktemp("outliers") / "m", WIDE, outliers=True)))


@pytest.fixture(scope="module")
def model(source: Source) -> SentenceTransformer:
    return load_original(source)


def test_the_model_has_large_activations(model: SentenceTransformer) -> None:
    with torch.inference_mode():
        ids = torch.tensor([[BOS, *range(5, 60)]])
        states = model[0].auto_model(ids, output_hidden_states=True).hidden_states[1:-1]
    for state in states:
        assert float(state[0, 0].abs().max()) > SINK / 2
        assert float(state[0, 1:].abs().max()) > 30 * float(state[0, 1:].abs().median())


def to_original(model: SentenceTransformer, *, rotated: bool) -> Agreement:
    vectors = original_vectors(simulated(model, rotated=rotated), CASES)
    return compare(vectors, original_vectors(model, CASES))


def test_plain_int8_fails_and_rotation_alone_is_not_enough(
    model: SentenceTransformer,
) -> None:
    plain, rotated = (to_original(model, rotated=rotated) for rotated in (False, True))
    assert plain.mean_cosine < 0.8
    assert plain.mean_cosine < rotated.mean_cosine < 0.99


def test_the_engine_reaches_the_floor(source: Source, tmp_path: Path) -> None:
    prepared = prepare(source, tmp_path / "int8", "int8")  # raises below the floor
    found = Agreement(**prepared.profile.verification["to_original"])
    assert not found.below(FLOORS["int8"]["float"])
