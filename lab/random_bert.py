"""Small BERT models of every architecture that the engine supports, with random weights."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
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
    dense: tuple[Dense, ...] = (),
    **fields: Any,
) -> Source:
    """Write a sentence-transformers directory.

    Args:
        directory: where to write it.
        architecture: of transformers, such as "bert".
        tokenizer: the directory of a tokenizer with 30,522 words.
        pooling: "mean" or "cls".
        dense: modules after the pooling.
        fields: replace FIELDS of the transformer's config.
    """
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **FIELDS | fields))
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.1)
    model.save_pretrained(str(directory / "transformer"))
    AutoTokenizer.from_pretrained(str(tokenizer)).save_pretrained(str(directory / "transformer"))
    modules = [Transformer(str(directory / "transformer"), max_seq_length=128)]
    modules += [Pooling(48, pooling_mode=pooling), *dense]
    whole = SentenceTransformer(modules=modules, device="cpu")
    whole.save_pretrained(str(directory / "st"), create_model_card=False)
    return locate(str(directory / "st"))
