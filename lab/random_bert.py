"""Small BERT models of every architecture that the engine supports, with random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from embedder.prepare.source import Source, locate

POSITIONS = 130
FIELDS: dict[str, Any] = {
    "vocab_size": 30_522, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3,
    "intermediate_size": 72, "max_position_embeddings": POSITIONS,
}  # fmt: skip


def build(
    directory: Path,
    architecture: str,
    tokenizer: Path,
    *,
    pooling: str = "mean",
    modules: tuple[Dense | Normalize, ...] = (),
    max_tokens: int = 128,
    prompts: Mapping[str, str] | None = None,
    name: str = "st",
    **fields: Any,
) -> Source:
    """Write a sentence-transformers directory.

    Args:
        directory: where to write it.
        architecture: of transformers, such as "bert".
        tokenizer: the directory of a tokenizer with at most `vocab_size` words.
        pooling: "mean" or "cls".
        modules: after the pooling.
        max_tokens: the limit that the directory asks for.
        prompts: that the directory names.
        name: of the directory, and so of the model.
        fields: replace FIELDS of the transformer's config.
    """
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **FIELDS | fields)
    model = AutoModel.from_config(config)
    _randomise(model)
    model.save_pretrained(str(directory / "transformer"))
    AutoTokenizer.from_pretrained(str(tokenizer)).save_pretrained(str(directory / "transformer"))
    transformer = Transformer(str(directory / "transformer"), max_seq_length=max_tokens)
    pooled = Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)
    whole = SentenceTransformer(
        modules=[transformer, pooled, *modules], prompts=dict(prompts or {}), device="cpu"
    )
    whole.save_pretrained(str(directory / name), create_model_card=False)
    return locate(str(directory / name))


def _randomise(model: nn.Module) -> None:
    """Every parameter matters: norms and biases too, which are 1 and 0 by default."""
    for name, parameter in model.named_parameters():
        mean = float(name.endswith("LayerNorm.weight"))
        std = 0.1 if parameter.dim() == 1 else parameter.shape[1] ** -0.5
        nn.init.normal_(parameter, mean=mean, std=std)
