"""EmbeddingGemma 2's text encoder, compared with vectors of sentence-transformers."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.model import EmbeddingModel
from embedder.native_engine import NativeEngine
from embedder.prepare.errors import UnsupportedModelError
from embedder.prepare.families import is_gated
from embedder.prepare.native import NativeModel
from embedder.prepare.original import load_original, max_tokens
from embedder.prepare.sentences import SENTENCES
from embedder.prepare.source import Source, locate
from embedder.tasks import main_names, prompts_by_task
from lab.random_embeddinggemma2 import PROMPTS, TINY, build
from tests.embedder.conftest import prepare
from tests.embedder.prepare.test_families import engine, original, random_texts

LENGTHS = (1, 2, 3, 9, 10, 17, 40, 65, 128, 300)
CLOSE = 2e-6  # greatest difference of a value, fp32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return locate(str(build(tmp_path_factory.mktemp("gemma2") / "tiny", TINY)))


@pytest.fixture(scope="module")
def model(source: Source) -> SentenceTransformer:
    return load_original(source)


@pytest.fixture(scope="module")
def fp32(model: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    return engine(model, tmp_path_factory.mktemp("gemma2-fp32"))


def transformer(model: SentenceTransformer) -> Any:
    return model[0].auto_model


def configured(model: SentenceTransformer) -> EngineConfig:
    return NativeModel(model, "model", precision="fp32", max_tokens=100).config


def test_vectors_are_close_to_the_originals_in_every_precision(
    model: SentenceTransformer, fp32: NativeEngine, tmp_path: Path
) -> None:
    texts = random_texts(*LENGTHS)
    expected = original(model, texts)
    np.testing.assert_allclose(fp32.forward(texts), expected, atol=CLOSE)
    for precision, least in (("fp16", 0.9999), ("int8", 0.997)):
        found = engine(model, tmp_path, precision).forward(texts)
        assert (found * expected).sum(axis=1).min() > least, precision


def one_plus_weight(model: Any) -> None:
    for module in model.modules():
        if type(module).__name__ == "EmbeddingGemma2RMSNorm" and module.with_scale:
            module.weight.data += 1


def of_layers(change: Callable[[Any], None]) -> Callable[[Any], None]:
    def of_model(model: Any) -> None:
        for layer in model.layers:
            change(layer)

    return of_model


def no_norm_of_values(layer: Any) -> None:
    layer.self_attn.v_norm = nn.Identity()


def scaled_scores(layer: Any) -> None:
    layer.self_attn.scaling = layer.self_attn.head_dim**-0.5


def no_embedding_of_the_layer(layer: Any) -> None:
    layer.ple_block.post_per_layer_input_norm.weight.data.zero_()


def embedding_without_norm(model: Any) -> None:
    model.ple.per_layer_projection_norm = nn.Identity()


def ungated_embedding(layer: Any) -> None:
    layer.ple_block.act_fn = nn.Threshold(np.inf, 1.0)  # 1 for every input


def no_scalar(layer: Any) -> None:
    layer.layer_scalar.fill_(1)


def halved_window(model: Any) -> None:
    model.config.sliding_window //= 2


def exclusive_window(model: Any) -> None:
    model.config.sliding_window -= 1


def scale_in_16_bits(model: Any) -> None:
    words = model.embed_tokens
    words.embed_scale.copy_(words.embed_scale.bfloat16())


def one_base_of_angles(model: Any) -> None:
    angles = model.rotary_emb
    n = len(angles.full_attention_inv_freq)
    angles.full_attention_inv_freq.copy_(10_000.0 ** -(torch.arange(n) / n))


def no_last_norm(model: Any) -> None:
    model.norm = nn.Identity()


# What the reference would compute if it did one thing as in Gemma 3, or left it out.
OTHER_WAYS: Mapping[str, Callable[[Any], None]] = {
    "norms multiply by 1 + weight": one_plus_weight,
    "values have no norm": of_layers(no_norm_of_values),
    "scores are scaled": of_layers(scaled_scores),
    "no embeddings per layer": of_layers(no_embedding_of_the_layer),
    "embeddings per layer without a norm": embedding_without_norm,
    "embeddings per layer without a gate": of_layers(ungated_embedding),
    "no layer scalar": of_layers(no_scalar),
    "half the window": halved_window,
    "the window without its last token": exclusive_window,
    "the scale of embeddings in bfloat16": scale_in_16_bits,
    "angles of sliding layers everywhere": one_base_of_angles,
    "no norm at the end": no_last_norm,
}


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_a_model_that_did_one_thing_as_in_gemma_3_would_be_noticed(
    name: str, model: SentenceTransformer, fp32: NativeEngine
) -> None:
    """So the test above fails if the engine does it that way."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        OTHER_WAYS[name](transformer(changed))
    texts = random_texts(40, 65)
    assert np.abs(fp32.forward(texts) - original(changed, texts)).max() > 10 * CLOSE


def test_full_layers_have_one_key_head_of_twice_the_size(model: SentenceTransformer) -> None:
    config = configured(model)
    assert config.sliding == (True,) * 5 + (False,)
    assert (config.heads, config.kv_heads, config.head_dim) == (4, 2, 32)
    assert (config.full_kv_heads, config.full_head_dim) == (1, 64)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_global_key_value_heads": 4},
        {"num_key_value_heads": 1, "global_head_dim": 32},
        {"layer_types": ["full_attention"] * TINY.layers},
        {"hidden_size_per_layer_input": 16},
        {"embedding_dim": 32},
    ],
)
def test_vectors_are_close_to_the_originals_with_other_sizes(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    dimensions = fields.get("embedding_dim", TINY.dimensions)
    size = replace(TINY, dimensions=dimensions)
    model = load_original(locate(str(build(tmp_path / "model", size, **fields))))
    texts = random_texts(5, 40, 65)
    expected = original(model, texts)
    np.testing.assert_allclose(engine(model, tmp_path).forward(texts), expected, atol=CLOSE)
    least = (engine(model, tmp_path, "int8").forward(texts) * expected).sum(axis=1).min()
    assert least > 0.997


@pytest.fixture(scope="module")
def real_window(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    size = replace(TINY, sliding_window=512)
    return load_original(locate(str(build(tmp_path_factory.mktemp("window") / "m", size))))


def test_the_window_reaches_exactly_512_tokens_to_each_side(
    real_window: SentenceTransformer, tmp_path: Path
) -> None:
    assert configured(real_window).window == 513
    found = engine(real_window, tmp_path)
    for length in (512, 513, 514, 1025, 1100):
        texts = random_texts(length)
        vectors = original(real_window, texts)
        np.testing.assert_allclose(found.forward(texts), vectors, atol=CLOSE)


@pytest.mark.parametrize("wrong", [511, 513])
def test_a_window_off_by_one_changes_texts_of_more_than_513_tokens(
    wrong: int, real_window: SentenceTransformer, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer(real_window).config, "sliding_window", wrong)
        misled = engine(real_window, tmp_path)
    for length, differs in ((512, False), (600, True)):
        texts = random_texts(length)
        distance = np.abs(misled.forward(texts) - original(real_window, texts)).max()
        assert (distance > 10 * CLOSE) == differs


def test_texts_have_up_to_8192_tokens_although_the_files_allow_more(
    model: SentenceTransformer, fp32: NativeEngine
) -> None:
    assert transformer(model).config.max_position_embeddings > 8192
    assert max_tokens(model) == 8192
    [longest] = random_texts(8192)
    assert np.isfinite(fp32.forward([longest])).all()
    texts = random_texts(2500)
    np.testing.assert_allclose(fp32.forward(texts), original(model, texts), atol=CLOSE)


def test_large_activations_are_balanced_where_no_norm_is_before_a_product(tmp_path: Path) -> None:
    """Those of the residual and of token embeddings; mean cosine 0.9990, without balance 0.83."""
    size = replace(TINY, hidden=256, ffn=512, head_dim=64, per_layer=128, dimensions=384)
    model = load_original(locate(str(build(tmp_path / "model", size, outliers=True))))
    texts = [np.array(model.tokenizer(text)["input_ids"]) for text in SENTENCES]
    prepared = NativeModel(model, "model", precision="int8", max_tokens=1024)
    with prepared.calibrating():
        expected = original(model, texts)
    prepared.write(tmp_path / "balanced")
    balanced = NativeEngine(tmp_path / "balanced", num_threads=2).forward(texts)
    assert (balanced * expected).sum(axis=1).mean() > 0.998
    unbalanced = engine(model, tmp_path, "int8").forward(texts)
    assert (unbalanced * expected).sum(axis=1).mean() < 0.95


def test_a_prepared_model_cuts_at_its_limit_or_a_lower_one_and_says_so(
    source: Source, tmp_path: Path
) -> None:
    prepared = prepare(source, tmp_path / "int8", "int8")
    assert prepared.profile.max_tokens == 8192
    assert prepared.profile.matryoshka == (TINY.dimensions,)
    for lower, limit in ((None, 8192), (131_072, 8192), (2048, 2048)):
        model = EmbeddingModel.load(tmp_path / "int8", num_threads=2, max_tokens=lower)
        assert model.max_tokens == limit
        [long, short] = model.tokenizer.encode(["word " * 9000, "word"], max_tokens=limit)
        assert len(long.ids) == limit < long.n_tokens
        assert len(short.ids) == short.n_tokens


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"head_dim": 24}, "head_dim is 24"),
    ],
)
def test_an_unsupported_model_is_refused(
    fields: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = load_original(locate(str(build(tmp_path / "model", TINY, **fields))))
    with pytest.raises(UnsupportedModelError, match=rf"{reason}.*MODEL_BACKEND=torch"):
        engine(model, tmp_path)


def test_the_model_needs_no_account() -> None:
    assert not is_gated("google/embeddinggemma-2")


def test_each_task_has_the_prompt_of_the_models_own_files() -> None:
    tasks = prompts_by_task(PROMPTS)
    expected = {
        "query": "task: search result | query: ",
        "document": "title: none | text: ",
        "question_answering": "task: question answering | query: ",
        "fact_checking": "task: fact checking | query: ",
        "classification": "task: classification | query: ",
        "clustering": "task: clustering | query: ",
        "similarity": "task: sentence similarity | query: ",
        "code": "task: code retrieval | query: ",
    }
    assert {name: tasks[name] for name in expected} == expected
    assert tasks["Summarization"] == expected["similarity"]
    assert set(expected) <= set(main_names(tasks))
