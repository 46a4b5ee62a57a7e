"""Silent faults with EmbeddingGemma, found by comparing with vectors of sentence-transformers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedder.native_engine import NativeEngine
from embedder.prepare.errors import ModelConfigError, UnsupportedModelError
from embedder.prepare.original import load_original
from embedder.prepare.sentences import SENTENCES
from embedder.prepare.source import Source, locate
from lab.random_embeddinggemma import TINY, Size, build
from tests.embedder.conftest import LoadModel, prepare
from tests.embedder.prepare.test_families import engine, original, random_texts

# EmbeddingGemma's window, in a model that is small enough for a test.
FULL_WINDOW = Size(
    layers=7, hidden=48, ffn=64, heads=3, head_dim=32, sliding_window=512,
    vocabulary=1024, max_tokens=1024, dense=96,
)  # fmt: skip


@pytest.fixture(scope="module")
def full_window(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return load_original(
        locate(str(build(tmp_path_factory.mktemp("window") / "tiny", FULL_WINDOW)))
    )


def window_of(model: SentenceTransformer) -> int:
    return int(model[0].auto_model.config.sliding_window)


@pytest.fixture(scope="module")
def full_engine(
    full_window: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory
) -> NativeEngine:
    return engine(full_window, tmp_path_factory.mktemp("window-engine"))


@pytest.mark.parametrize("length", [255, 256, 257, 258, 259, 513, 900])
def test_the_window_is_exact_to_one_token(
    full_window: SentenceTransformer, full_engine: NativeEngine, length: int
) -> None:
    assert window_of(full_window) == 257
    texts = random_texts(length)
    np.testing.assert_allclose(full_engine.forward(texts), original(full_window, texts), atol=2e-6)


@pytest.mark.parametrize("wrong", [256, 258])
def test_a_window_off_by_one_changes_texts_of_more_than_256_tokens(
    full_window: SentenceTransformer, wrong: int, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_window[0].auto_model.config, "sliding_window", wrong)
        misled = engine(full_window, tmp_path)
    for length, differs in ((256, False), (300, True)):
        texts = random_texts(length)
        distance = np.abs(misled.forward(texts) - original(full_window, texts)).max()
        assert (distance > 1e-5) == differs


def test_texts_longer_than_the_window_keep_it_in_one_pack(
    full_window: SentenceTransformer, full_engine: NativeEngine
) -> None:
    texts = random_texts(300, 300, 300)
    np.testing.assert_allclose(full_engine.forward(texts), original(full_window, texts), atol=2e-6)


def test_padding_on_either_side_changes_nothing(
    gemma: LoadModel, gemma_original: SentenceTransformer
) -> None:
    vectors = gemma("fp32").embed(SENTENCES)
    for side in ("left", "right"):
        gemma_original.tokenizer.padding_side = side
        np.testing.assert_allclose(gemma_original.encode(list(SENTENCES)), vectors, atol=5e-6)


def test_attention_is_bidirectional_and_a_causal_model_is_refused(tmp_path: Path) -> None:
    both = load_original(locate(str(build(tmp_path / "both", TINY))))
    causal = load_original(
        locate(str(build(tmp_path / "causal", TINY, use_bidirectional_attention=False)))
    )
    texts = random_texts(30, 50)
    vectors = engine(both, tmp_path).forward(texts)
    np.testing.assert_allclose(vectors, original(both, texts), atol=2e-6)
    assert np.sum(vectors * original(causal, texts), axis=1).max() < 0.9999
    with pytest.raises(UnsupportedModelError, match="MODEL_BACKEND=torch"):
        engine(causal, tmp_path)


def test_saving_and_loading_again_keeps_the_window(
    gemma_original: SentenceTransformer, tmp_path: Path
) -> None:
    gemma_original.save_pretrained(str(tmp_path / "again"), create_model_card=False)
    again = load_original(locate(str(tmp_path / "again")))
    assert window_of(again) == window_of(gemma_original) == TINY.sliding_window // 2 + 1


def test_a_window_halved_by_a_save_is_refused(gemma_source: Source, tmp_path: Path) -> None:
    shutil.copytree(gemma_source.directory, tmp_path / "halved")
    path = tmp_path / "halved" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"sliding_window": config["sliding_window"] // 2 + 1}))
    with pytest.raises(ModelConfigError, match="halved"):
        load_original(locate(str(tmp_path / "halved")))


def test_dense_layers_are_part_of_the_model(
    gemma_original: SentenceTransformer, tmp_path: Path
) -> None:
    texts = random_texts(20, 30)
    whole = engine(gemma_original, tmp_path).forward(texts)
    bare = SentenceTransformer(modules=list(gemma_original)[:2], device="cpu")
    bare.max_seq_length = gemma_original.max_seq_length
    found = engine(bare, tmp_path).forward(texts)
    np.testing.assert_allclose(found, original(bare, texts), atol=2e-6)
    assert np.abs(found - whole).max() > 1e-2


def test_activations_beyond_fp16_stay_finite_in_16_bit_storage(tmp_path: Path) -> None:
    """EmbeddingGemma's reach 8e5; here the norms after each MLP push the residual past 65,504."""
    model = load_original(locate(str(build(tmp_path / "small", TINY))))
    transformer = model[0].auto_model
    with torch.inference_mode():
        for layer in transformer.layers:
            layer.post_feedforward_layernorm.weight.fill_(1e5)
        states = transformer(torch.arange(4, 100)[None], output_hidden_states=True).hidden_states
    assert max(float(state.abs().max()) for state in states) > 65_504
    model.save_pretrained(str(tmp_path / "large"), create_model_card=False)
    prepared = prepare(locate(str(tmp_path / "large")), tmp_path / "fp16", "fp16")
    assert np.isfinite(prepared.embed(SENTENCES)).all()
    assert prepared.profile.verification["to_original"]["mean_cosine"] > 0.9999


def test_a_limit_above_the_positions_is_lowered_to_them(
    gemma_source: Source, tmp_path: Path
) -> None:
    shutil.copytree(gemma_source.directory, tmp_path / "long")
    for name in ("sentence_bert_config.json", "tokenizer_config.json"):
        path = tmp_path / "long" / name
        config = json.loads(path.read_text())
        key = "max_seq_length" if "bert" in name else "model_max_length"
        path.write_text(json.dumps(config | {key: 1_000_000}))
    assert load_original(locate(str(tmp_path / "long"))).max_seq_length == TINY.max_tokens
