"""BERT models that people use, with their real shapes and random weights.

The numbers are those of each model's config.json, modules.json and sentence_bert_config.json. Two
are smaller, since nothing that tests look at depends on them: models have one layer, and a
multilingual vocabulary has about 2,000 words. The vectors are meaningless.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sentence_transformers.base.modules import Normalize

from embedder.prepare.source import Source
from lab import sentencepiece_tokenizer
from lab.random_bert import build

LAYERS = 1
ADDED_ROWS = 35  # of the table of multilingual-e5-small, which no token has


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What differs between the models."""

    width: int
    heads: int
    architecture: str = "bert"
    pooling: str = "cls"
    multilingual: bool = False  # the tokenizer of XLM-R, not that of uncased BERT
    normalised: bool = True
    max_tokens: int = 512
    prompts: Mapping[str, str] = field(default_factory=dict)  # that the model's own files name


SEARCH = {"query": "Represent this sentence for searching relevant passages: "}
SHAPES: Mapping[str, Shape] = {
    "gte-small": Shape(width=384, heads=12, pooling="mean"),
    "bge-small-en": Shape(width=384, heads=12),
    "bge-small-en-v1.5": Shape(width=384, heads=12),
    "bge-base-en": Shape(width=768, heads=12),
    "bge-base-en-v1.5": Shape(width=768, heads=12),
    "bge-m3": Shape(
        width=1024, heads=16, architecture="xlm-roberta", multilingual=True, max_tokens=8192
    ),
    "multilingual-e5-small": Shape(width=384, heads=12, pooling="mean", multilingual=True),
    "multilingual-e5-base": Shape(
        width=768, heads=12, architecture="xlm-roberta", pooling="mean", multilingual=True
    ),
    "multilingual-e5-large": Shape(
        width=1024, heads=16, architecture="xlm-roberta", pooling="mean", multilingual=True
    ),
    "paraphrase-multilingual-MiniLM-L12-v2": Shape(
        width=384, heads=12, pooling="mean", multilingual=True, normalised=False, max_tokens=128
    ),
    "snowflake-arctic-embed-xs": Shape(width=384, heads=12, prompts=SEARCH),
    "snowflake-arctic-embed-s": Shape(width=384, heads=12, prompts=SEARCH),
    "snowflake-arctic-embed-m": Shape(width=768, heads=12, prompts=SEARCH),
    "snowflake-arctic-embed-m-v1.5": Shape(width=768, heads=12, prompts=SEARCH),
    "snowflake-arctic-embed-l": Shape(width=1024, heads=16, prompts=SEARCH),
    "snowflake-arctic-embed-l-v2.0": Shape(
        width=1024, heads=16, architecture="xlm-roberta", multilingual=True, max_tokens=8192,
        prompts={"query": "query: "},
    ),
}  # fmt: skip


def random_model(name: str, directory: Path, *, wordpiece: Path) -> Source:
    """Write a model of SHAPES as a sentence-transformers directory of that name.

    Args:
        name: one of SHAPES.
        directory: where to write it.
        wordpiece: the directory of a tokenizer of uncased BERT.
    """
    shape = SHAPES[name]
    tokenizer, n_words = wordpiece, 30_522
    if shape.multilingual:
        tokenizer = directory / "tokenizer"
        n_words = sentencepiece_tokenizer.write(tokenizer)
    roberta = shape.architecture == "xlm-roberta"
    numbers: Mapping[str, int | float] = (
        {"max_position_embeddings": shape.max_tokens + 2, "type_vocab_size": 1,
         "pad_token_id": 1, "layer_norm_eps": 1e-5}
        if roberta
        else {"max_position_embeddings": 512, "type_vocab_size": 2,
              "pad_token_id": 0, "layer_norm_eps": 1e-12}
    )  # fmt: skip
    return build(
        directory,
        shape.architecture,
        tokenizer,
        pooling=shape.pooling,
        modules=(Normalize(),) if shape.normalised else (),
        max_tokens=shape.max_tokens,
        prompts=shape.prompts,
        name=name,
        vocab_size=n_words + (0 if roberta or not shape.multilingual else ADDED_ROWS),
        hidden_size=shape.width,
        num_hidden_layers=LAYERS,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        **numbers,
    )
