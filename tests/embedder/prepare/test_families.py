"""Every family and precision, compared with vectors of sentence-transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from torch import nn

from embedder.native_engine import NativeEngine
from embedder.postprocess import Vectors, normalise
from embedder.prepare.errors import UnsupportedModelError
from embedder.prepare.native import NativeModel
from embedder.prepare.original import load_original, max_tokens
from embedder.prepare.source import Source, locate
from embedder.profile import WEIGHTS_FILE
from embedder.tokenized_text import TokenIds
from lab.random_bert import build
from lab.random_embeddinggemma import TINY
from lab.random_embeddinggemma import build as build_gemma

LENGTHS = (1, 2, 3, 17, 40, 64, 65, 127, 128)


def random_texts(*lengths: int) -> list[TokenIds]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.integers(4, 1000, length) for length in lengths]


def original(model: SentenceTransformer, token_ids: Sequence[TokenIds]) -> Vectors:
    """Vectors of the original, one text at a time, so without padding."""
    rows = []
    for ids in token_ids:
        input_ids = torch.from_numpy(ids)[None]
        features = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        with torch.inference_mode():
            rows.append(model(features)["sentence_embedding"][0].numpy())
    return normalise(np.stack(rows))


def engine(model: SentenceTransformer, directory: Path, precision: str = "fp32") -> NativeEngine:
    """The engine with a model that is written, but not verified."""
    path = directory / f"{precision}-{WEIGHTS_FILE}"
    tokens = max_tokens(model)
    NativeModel(model, "model", precision=precision, max_tokens=tokens).write(path)
    return NativeEngine(path, num_threads=2)


BERTS: dict[str, dict[str, Any]] = {
    "bert": {"pooling": "mean"},
    "bert-cls": {"pooling": "cls"},
    "roberta": {"pooling": "mean", "type_vocab_size": 1},
    "xlm-roberta": {"pooling": "cls", "type_vocab_size": 1},
    "camembert": {"pooling": "mean", "type_vocab_size": 1},
    "bert-gelu_new": {"hidden_act": "gelu_new"},
    "bert-relu": {"hidden_act": "relu"},
    "bert-odd-vocabulary": {"vocab_size": 30_523},
    "bert-narrow-ffn": {"intermediate_size": 40},
    "bert-tanh-dense": {"modules": (Dense(48, 32, activation_function=nn.Tanh()),)},
    "bert-two-dense": {
        "modules": (
            Dense(48, 96, bias=False, activation_function=nn.GELU()),
            Dense(96, 16, activation_function=nn.Identity()),
        )
    },
}


@pytest.mark.parametrize("name", BERTS)
def test_vectors_of_bert_and_its_relatives_are_close_to_the_originals(
    name: str, starter_source: Source, tmp_path: Path
) -> None:
    architecture = name if name == "xlm-roberta" else name.partition("-")[0]
    source = build(tmp_path, architecture, starter_source.directory, **BERTS[name])
    model = load_original(source)
    texts = random_texts(*(n for n in LENGTHS if n <= max_tokens(model)))
    found = {p: engine(model, tmp_path, p).forward(texts) for p in ("fp32", "fp16", "int8")}
    expected = original(model, texts)
    np.testing.assert_allclose(found["fp32"], expected, atol=2e-6)
    for precision, least in (("fp16", 0.9999), ("int8", 0.997)):
        assert (found[precision] * expected).sum(axis=1).min() > least, precision


def test_roberta_reads_as_many_tokens_as_it_has_positions(
    starter_source: Source, tmp_path: Path
) -> None:
    source = build(tmp_path, "roberta", starter_source.directory, max_position_embeddings=66)
    model = load_original(source)
    assert max_tokens(model) == 64
    texts = random_texts(64)
    np.testing.assert_allclose(
        engine(model, tmp_path).forward(texts), original(model, texts), atol=2e-6
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_attention_heads": 4, "num_key_value_heads": 2},
        {"num_attention_heads": 4, "num_key_value_heads": 4},
        {"layer_types": ["full_attention"] * TINY.layers},
        {"layer_types": ["sliding_attention"] * TINY.layers},
    ],
)
def test_vectors_of_gemma_are_close_to_the_originals_with_any_heads_and_layers(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    model = load_original(locate(str(build_gemma(tmp_path / "gemma", TINY, **fields))))
    texts = random_texts(*LENGTHS, 300)
    expected = original(model, texts)
    np.testing.assert_allclose(engine(model, tmp_path).forward(texts), expected, atol=2e-6)
    least = (engine(model, tmp_path, "int8").forward(texts) * expected).sum(axis=1).min()
    assert least > 0.997


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ({"is_decoder": True}, "decoder"),
        ({"num_attention_heads": 6}, "head_dim is 8"),
    ],
)
def test_an_unsupported_bert_is_refused(
    fields: dict[str, Any], reason: str, starter_source: Source, tmp_path: Path
) -> None:
    source = build(tmp_path, "bert", starter_source.directory, **fields)
    with pytest.raises(UnsupportedModelError, match=rf"{reason}.*MODEL_BACKEND=torch"):
        engine(load_original(source), tmp_path)
