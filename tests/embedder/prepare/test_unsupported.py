"""Models that the engine does not support are refused, and it is said what takes them."""

from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Pooling

from embedder.prepare.errors import UnsupportedModelError
from embedder.prepare.parts import read_parts
from embedder.prepare.source import Source
from lab.random_bert import build as build_bert
from tests.embedder.conftest import prepare


def test_an_unknown_architecture_is_refused_with_the_torch_backend_named(
    starter_source: Source, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    source = build_bert(tmp_path, "distilbert", starter_source.directory, **fields)
    with pytest.raises(UnsupportedModelError, match=r"distilbert.*MODEL_BACKEND=torch"):
        prepare(source, tmp_path / "prepared", "int8")
    model = prepare(source, tmp_path / "as-it-is", "fp32", backend="torch")
    assert model.embed(["a text", "another one"]).shape == (2, 48)


@pytest.mark.parametrize(
    ("pooling", "prompts", "reason"),
    [
        (Pooling(48, pooling_mode="max"), {}, "pooling 'max'"),
        (Pooling(48, pooling_mode="mean", include_prompt=False), {"query": "q: "}, "prompts"),
        (Pooling(48, pooling_mode=("mean", "cls")), {}, "pooling"),
    ],
)
def test_unsupported_pooling_is_refused(
    pooling: Pooling, prompts: dict[str, str], reason: str, gemma_original: SentenceTransformer
) -> None:
    model = SentenceTransformer(modules=[gemma_original[0], pooling], prompts=prompts, device="cpu")
    with pytest.raises(UnsupportedModelError, match=rf"{reason}.*MODEL_BACKEND=torch"):
        read_parts(model, "model")


def test_a_dense_layer_with_a_residual_is_refused(gemma_original: SentenceTransformer) -> None:
    modules = [gemma_original[0], Pooling(48), Dense(48, 48, use_residual=True)]
    with pytest.raises(UnsupportedModelError, match="residual"):
        read_parts(SentenceTransformer(modules=modules, device="cpu"), "model")


def test_a_dense_layer_on_tokens_is_refused(gemma_original: SentenceTransformer) -> None:
    dense = Dense(48, 48, module_input_name="token_embeddings")
    modules = [gemma_original[0], Pooling(48), dense]
    with pytest.raises(UnsupportedModelError, match="token embeddings"):
        read_parts(SentenceTransformer(modules=modules, device="cpu"), "model")
