"""EmbeddingGemma 2's text encoder with random weights, for tests of speed, memory and correctness.

    python -m lab.random_embeddinggemma2 DIRECTORY [--size full|tiny] [--outliers]

Speed and memory do not depend on the values of weights. The vectors are meaningless and must never
be presented as embeddings. The full size has the 271.0 M parameters of the text encoder.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch.nn.init import normal_
from transformers import EmbeddingGemma2TextConfig, EmbeddingGemma2TextModel

from lab import random_embeddinggemma
from lab.random_embeddinggemma import RESIDUAL_FACTOR, run, write

# From config_sentence_transformers.json of google/embeddinggemma-2.
PROMPTS = {
    "BitextMining": "task: search result | query: ",
    "Classification": "task: classification | query: ",
    "Clustering": "task: clustering | query: ",
    "CodeRetrieval": "task: code retrieval | query: ",
    "Document": "title: none | text: ",
    "FactChecking": "task: fact checking | query: ",
    "InstructionRetrieval": "task: code retrieval | query: ",
    "MultilabelClassification": "task: classification | query: ",
    "PairClassification": "task: sentence similarity | query: ",
    "QuestionAnswering": "task: question answering | query: ",
    "Reranking": "task: search result | query: ",
    "Retrieval": "task: search result | query: ",
    "Retrieval-document": "title: none | text: ",
    "Retrieval-query": "task: search result | query: ",
    "STS": "task: sentence similarity | query: ",
    "SearchQuery": "task: search result | query: ",
    "SentenceSimilarity": "task: sentence similarity | query: ",
    "Summarization": "task: sentence similarity | query: ",
    "document": "title: none | text: ",
    "query": "task: search result | query: ",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """The numbers of config.json. Full layers have heads of twice the size, and one of key/value.

    `positions` is far above what the model was trained for, as in the original.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    per_layer: int
    dimensions: int
    sliding_window: int
    vocabulary: int
    positions: int


FULL = Size(
    layers=24, hidden=512, ffn=2048, heads=4, kv_heads=2, head_dim=256, per_layer=512,
    dimensions=768, sliding_window=512, vocabulary=262_144, positions=262_144,
)  # fmt: skip
TINY = Size(
    layers=6, hidden=48, ffn=64, heads=4, kv_heads=2, head_dim=32, per_layer=80,
    dimensions=96, sliding_window=8, vocabulary=1024, positions=16_384,
)  # fmt: skip
SIZES = {"full": FULL, "tiny": TINY}


def build(
    directory: Path, size: Size, *, seed: int = 0, outliers: bool = False, **overrides: Any
) -> Path:
    """Write a sentence-transformers directory of the text encoder alone.

    Args:
        directory: where to write it.
        size: of the model.
        seed: of the random weights.
        outliers: add large activations, see plant_outliers.
        overrides: replace fields of the transformer's config.
    """
    torch.manual_seed(seed)
    transformer = random_transformer(size, **overrides)
    if outliers:
        plant_outliers(transformer)

    def modules(scratch: str) -> list[torch.nn.Module]:
        pooling = Pooling(size.dimensions, pooling_mode="mean")
        return [Transformer(scratch), pooling, Normalize()]

    return write(directory, transformer, modules, vocabulary=size.vocabulary, prompts=PROMPTS)


def random_transformer(size: Size, **overrides: Any) -> EmbeddingGemma2TextModel:
    """The text encoder with random weights."""
    fields: dict[str, Any] = {
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "global_head_dim": 2 * size.head_dim,
        "num_global_key_value_heads": 1,
        "hidden_size_per_layer_input": size.per_layer,
        "embedding_dim": size.dimensions,
        "sliding_window": size.sliding_window,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.positions,
    }
    model = EmbeddingGemma2TextModel(EmbeddingGemma2TextConfig(**fields | overrides))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            normal_(parameter, mean=_typical_gain(name, len(parameter)), std=0.1)
    for layer in model.layers:
        normal_(layer.layer_scalar, mean=1.0, std=0.1)
    normal_(model.embed_tokens.weight, std=size.hidden**-0.5)
    return model


def _typical_gain(name: str, width: int) -> float:
    """The mean weight of a norm, so that the model behaves like a trained one.

    Attention does not scale its scores, so the norms of queries and keys keep them near 1. Trained
    models add small steps to a large residual; without this, 24 random layers amplify rounding
    errors until vectors differ.
    """
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return float(width**-0.25)
    return 0.2 if ".post_" in name else 1.0


def plant_outliers(model: EmbeddingGemma2TextModel) -> None:
    """Give a model the large activations of trained models, in place.

    The same as in lab/random_embeddinggemma.py. The products of the embeddings per layer read the
    residual and the token's embedding without a norm.
    """
    with torch.no_grad():
        large = random_embeddinggemma.plant_outliers(model, _scale_norm)
        for layer in model.layers:
            block = layer.ple_block
            block.post_per_layer_input_norm.weight[large] *= RESIDUAL_FACTOR
            block.per_layer_input_gate.weight[:, large] /= RESIDUAL_FACTOR


def _scale_norm(norm: torch.nn.Module, channels: list[int], factors: torch.Tensor) -> None:
    norm.weight[channels] *= factors


def with_other_modalities(text_encoder: Path, directory: Path) -> Path:
    """Write `text_encoder` as google/embeddinggemma-2 is published: with other parts in its files.

    The parts that read images and sound are described in config.json and have one tensor each.
    """
    shutil.copytree(text_encoder, directory)
    config = json.loads((directory / "config.json").read_text())
    sections = {"vision_config": "gemma4_vision", "audio_config": "gemma4_audio"}
    whole = {
        "architectures": ["EmbeddingGemma2Model"],
        "model_type": "embedding_gemma2",
        "text_config": config,
        **{name: {"model_type": model_type} for name, model_type in sections.items()},
    }
    (directory / "config.json").write_text(json.dumps(whole))
    (directory / "processor_config.json").write_text(
        json.dumps({"processor_class": "EmbeddingGemma2Processor"})
    )
    path = directory / "sentence_bert_config.json"
    settings = json.loads(path.read_text())
    by_forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = dict.fromkeys(("text", "image", "audio", "video"), by_forward)
    settings["modality_config"] = modalities | {"message": {**by_forward, "format": "structured"}}
    path.write_text(json.dumps(settings))
    weights = directory / "model.safetensors"
    tensors = {f"language_model.{name}": values for name, values in load_file(weights).items()}
    for part in ("audio_tower", "embed_audio", "embed_vision", "vision_tower"):
        tensors[f"{part}.weight"] = torch.zeros(64, 64)
    save_file(tensors, weights, metadata={"format": "pt"})
    return directory


if __name__ == "__main__":
    run(build, SIZES, what="EmbeddingGemma 2's text encoder")
