"""What goes wrong silently with EmbeddingGemma, each against sentence-transformers' own vectors."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.random_embeddinggemma import TINY, Size, build
from embedder.errors import ModelConfigError, UnsupportedModelError
from embedder.packing import layout
from embedder.postprocess import Vectors, normalise
from embedder.prepare.build import load_original
from embedder.prepare.export import packed_module
from embedder.prepare.parts import read_parts
from embedder.prepare.sentences import SENTENCES
from embedder.prepare.source import Source, locate
from embedder.prepare.wrapped import PackedOriginal
from tests.embedder.conftest import LoadModel, prepare

# EmbeddingGemma's own window, on a model small enough for a test.
WIDE_WINDOW = Size(
    layers=7, hidden=48, ffn=64, heads=3, head_dim=16, sliding_window=512,
    vocabulary=1024, max_tokens=1024, dense=96,
)  # fmt: skip


@pytest.fixture(scope="module")
def wide_window(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return load_original(locate(str(build(tmp_path_factory.mktemp("wide") / "tiny", WIDE_WINDOW))))


def original(model: SentenceTransformer, token_ids: Sequence[np.ndarray]) -> Vectors:
    """One text at a time: neither padding nor neighbours."""
    rows = []
    for ids in token_ids:
        input_ids = torch.from_numpy(ids)[None]
        features = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        with torch.inference_mode():
            rows.append(model(features)["sentence_embedding"][0].numpy())
    return normalise(np.stack(rows))


def packed(module: torch.nn.Module, token_ids: Sequence[np.ndarray], window: int) -> Vectors:
    """All texts in one pack, through the module that is exported."""
    inputs = layout(token_ids, window=window).inputs()
    names = module.forward.__code__.co_varnames[1 : module.forward.__code__.co_argcount]
    with torch.inference_mode():
        vectors: Vectors = module(*(torch.from_numpy(inputs[name]) for name in names)).numpy()
    return vectors


def random_texts(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.integers(4, 1000, length) for length in lengths]


def window_of(model: SentenceTransformer) -> int:
    return int(model[0].auto_model.config.sliding_window)


@pytest.mark.parametrize("length", [255, 256, 257, 258, 259, 513, 900])
def test_the_window_is_right_to_the_token(wide_window: SentenceTransformer, length: int) -> None:
    module = packed_module(wide_window, "tiny", 1024)
    assert window_of(wide_window) == 257
    texts = random_texts(length)
    np.testing.assert_allclose(packed(module, texts, 257), original(wide_window, texts), atol=2e-6)


@pytest.mark.parametrize("wrong", [256, 258])
def test_a_window_off_by_one_shows_from_257_tokens_on(wide_window: SentenceTransformer, wrong: int) -> None:
    module = packed_module(wide_window, "tiny", 1024)
    module.window = wrong
    for length, differs in ((256, False), (300, True)):
        texts = random_texts(length)
        distance = np.abs(packed(module, texts, 300) - original(wide_window, texts)).max()
        assert (distance > 1e-5) == differs


def test_texts_of_one_length_beyond_the_window_keep_it_in_one_pack(wide_window: SentenceTransformer) -> None:
    module = packed_module(wide_window, "tiny", 1024)
    texts = random_texts(300, 300, 300)
    np.testing.assert_allclose(packed(module, texts, 257), original(wide_window, texts), atol=2e-6)


def test_the_forward_pass_equals_the_wrapped_original(gemma_original: SentenceTransformer) -> None:
    written = packed_module(gemma_original, "tiny", 1024)
    wrapped = PackedOriginal(read_parts(gemma_original, "tiny"), 1024).eval()
    texts = random_texts(3, 40, 17, 130, 9)
    window = window_of(gemma_original)
    np.testing.assert_allclose(packed(written, texts, window), packed(wrapped, texts, window), atol=2e-6)


def test_padding_on_either_side_changes_nothing(gemma: LoadModel, gemma_original: SentenceTransformer) -> None:
    vectors = gemma("fp32").embed(SENTENCES)
    for side in ("left", "right"):
        gemma_original.tokenizer.padding_side = side
        np.testing.assert_allclose(gemma_original.encode(list(SENTENCES)), vectors, atol=5e-6)


def test_attention_is_bidirectional_and_a_causal_model_is_refused(tmp_path: Path) -> None:
    both = load_original(locate(str(build(tmp_path / "both", TINY))))
    causal = load_original(locate(str(build(tmp_path / "causal", TINY, use_bidirectional_attention=False))))
    texts = random_texts(30, 50)
    vectors = packed(packed_module(both, "both", 1024), texts, window_of(both))
    np.testing.assert_allclose(vectors, original(both, texts), atol=2e-6)
    assert np.sum(vectors * original(causal, texts), axis=1).max() < 0.9999
    with pytest.raises(UnsupportedModelError, match="MODEL_BACKEND=torch"):
        packed_module(causal, "causal", 1024)


def test_saving_and_loading_again_keeps_the_window(gemma_original: SentenceTransformer, tmp_path: Path) -> None:
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


def test_dense_layers_are_part_of_the_graph(gemma_original: SentenceTransformer) -> None:
    module = packed_module(gemma_original, "tiny", 1024)
    texts = random_texts(20, 30)
    whole = packed(module, texts, window_of(gemma_original))
    module.head.dense = torch.nn.ModuleList()
    assert np.abs(packed(module, texts, window_of(gemma_original)) - whole).max() > 1e-2


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
    assert prepared.profile.verification["fp16_to_fp32"]["mean_cosine"] > 0.999


def test_a_limit_above_the_positions_is_lowered_to_them(gemma_source: Source, tmp_path: Path) -> None:
    shutil.copytree(gemma_source.directory, tmp_path / "long")
    for name in ("sentence_bert_config.json", "tokenizer_config.json"):
        path = tmp_path / "long" / name
        config = json.loads(path.read_text())
        key = "max_seq_length" if "bert" in name else "model_max_length"
        path.write_text(json.dumps(config | {key: 1_000_000}))
    assert load_original(locate(str(tmp_path / "long"))).max_seq_length == TINY.max_tokens
