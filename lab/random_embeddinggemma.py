"""EmbeddingGemma's architecture with random weights, for tests of speed, memory and correctness.

    python -m lab.random_embeddinggemma DIRECTORY [--size full|tiny] [--outliers]

Speed and memory do not depend on the values of weights. The vectors are meaningless and must never
be presented as embeddings. The full size has the 307.6 M parameters of EmbeddingGemma-300m.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    Gemma3TextConfig,
    Gemma3TextModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from embedder.prepare.sentences import SENTENCES, long_text

# From config_sentence_transformers.json of google/embeddinggemma-300m.
PROMPTS = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "BitextMining": "task: search result | query: ",
    "Clustering": "task: clustering | query: ",
    "Classification": "task: classification | query: ",
    "InstructionRetrieval": "task: code retrieval | query: ",
    "MultilabelClassification": "task: classification | query: ",
    "PairClassification": "task: sentence similarity | query: ",
    "Reranking": "task: search result | query: ",
    "Retrieval": "task: search result | query: ",
    "Retrieval-query": "task: search result | query: ",
    "Retrieval-document": "title: none | text: ",
    "STS": "task: sentence similarity | query: ",
    "Summarization": "task: summarization | query: ",
}
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
BOS = SPECIAL.index("<bos>")
MODEL_NAME = "random-embeddinggemma"


@dataclass(frozen=True, kw_only=True)
class Size:
    """The numbers of config.json. A `sliding_window` of 512 attends to |i - j| <= 256."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    head_dim: int
    sliding_window: int
    vocabulary: int
    max_tokens: int
    dense: int


FULL = Size(
    layers=24, hidden=768, ffn=1152, heads=3, head_dim=256, sliding_window=512,
    vocabulary=262_144, max_tokens=2048, dense=3072,
)  # fmt: skip
TINY = Size(
    layers=7, hidden=48, ffn=64, heads=3, head_dim=32, sliding_window=16,
    vocabulary=1024, max_tokens=1024, dense=96,
)  # fmt: skip
SIZES = {"full": FULL, "tiny": TINY}


def build(
    directory: Path, size: Size, *, seed: int = 0, outliers: bool = False, **overrides: Any
) -> Path:
    """Write a sentence-transformers directory.

    Args:
        directory: where to write it.
        size: of the model.
        seed: of the random weights.
        outliers: add large activations, see plant_outliers.
        overrides: replace fields of the transformer's config.
    """
    torch.manual_seed(seed)
    transformer = _transformer(size, overrides)
    if outliers:
        plant_outliers(transformer)

    def modules(scratch: str) -> list[torch.nn.Module]:
        return [
            Transformer(scratch, max_seq_length=size.max_tokens),
            Pooling(size.hidden, pooling_mode="mean"),
            Dense(size.hidden, size.dense, bias=False, activation_function=torch.nn.Identity()),
            Dense(size.dense, size.hidden, bias=False, activation_function=torch.nn.Identity()),
            Normalize(),
        ]

    return write(directory, transformer, modules, vocabulary=size.vocabulary, prompts=PROMPTS)


def write(
    directory: Path,
    transformer: PreTrainedModel,
    modules: Callable[[str], list[torch.nn.Module]],
    *,
    vocabulary: int,
    prompts: Mapping[str, str],
) -> Path:
    """Write a sentence-transformers directory.

    Args:
        directory: where to write it.
        transformer: its first module.
        modules: makes all of them, from the directory with the transformer and its tokenizer.
        vocabulary: tokens of the tokenizer, at most.
        prompts: by name.
    """
    with tempfile.TemporaryDirectory() as scratch:
        transformer.save_pretrained(scratch)
        tokenizer(vocabulary).save_pretrained(scratch)
        model = SentenceTransformer(modules=modules(scratch), prompts=dict(prompts), device="cpu")
        model.save_pretrained(str(directory), create_model_card=False)
    return directory


def _transformer(size: Size, overrides: dict[str, Any]) -> Gemma3TextModel:
    fields: dict[str, Any] = {
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": 1,
        "head_dim": size.head_dim,
        "query_pre_attn_scalar": size.head_dim,
        "sliding_window": size.sliding_window,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.max_tokens,
        "use_bidirectional_attention": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": BOS,
    }
    model = Gemma3TextModel(Gemma3TextConfig(**fields | overrides))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):  # zero by default, which would hide a missing "1 + weight"
            # Trained models add small steps to a large residual. Without this, 24 random layers
            # amplify rounding errors until vectors differ.
            torch.nn.init.normal_(parameter, mean=-0.8 if ".post_" in name else 0.0, std=0.1)
    torch.nn.init.normal_(model.embed_tokens.weight, std=size.hidden**-0.5)
    return model


FFN_OUTLIERS, FFN_FACTOR = 3, 512.0
NORM_OUTLIERS, NORM_FACTORS = 3, (128.0, 512.0, 1024.0)
RESIDUAL_FACTOR, SINK = 100.0, 3000.0
ScaleNorm: TypeAlias = Callable[[torch.nn.Module, list[int], torch.Tensor], None]


def _scale_norm(norm: torch.nn.Module, channels: list[int], factors: torch.Tensor) -> None:
    """Scale channels of a norm; that of Gemma 3 multiplies by 1 + weight."""
    norm.weight[channels] = (1 + norm.weight[channels]) * factors - 1


def plant_outliers(model: Any, scale: ScaleNorm = _scale_norm) -> int:
    """Give a model the large activations of trained models, in place.

    int8 with one scale for all activations fails on them. A few input channels of every product are
    scaled by 128 to 1,024 and the matching columns of its weights by the inverse; these are powers
    of two, so products are unchanged. One channel of the residual is 100 times as large as the
    others, and one of the first token, <bos>, is 3,000, like the "massive activations" of language
    models (arXiv:2402.17762).

    Args:
        model: a transformer of the Gemma family.
        scale: scales channels of one of its norms.

    Returns:
        The large channel of the residual.
    """
    places: list[int] = torch.randperm(model.config.hidden_size)[: NORM_OUTLIERS + 2].tolist()
    channels = places[:NORM_OUTLIERS]
    large = places[-2]
    sink = places[-1]
    factors = torch.tensor(NORM_FACTORS)
    with torch.no_grad():
        model.embed_tokens.weight[BOS, sink] = SINK / float(model.embed_tokens.embed_scale)
        for layer in model.layers:
            attention = layer.self_attn
            mlp = layer.mlp
            for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
                scale(norm, [large], torch.tensor(RESIDUAL_FACTOR))
            for norm, products in (
                (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (layer.pre_feedforward_layernorm, (mlp.gate_proj, mlp.up_proj)),
            ):
                scale(norm, channels, factors)
                for product in products:
                    product.weight[:, channels] /= factors
                    product.weight[:, large] /= RESIDUAL_FACTOR
            inner = torch.randperm(len(mlp.up_proj.weight))[:FFN_OUTLIERS]
            mlp.up_proj.weight[inner] *= FFN_FACTOR
            mlp.down_proj.weight[:, inner] /= FFN_FACTOR
        scale(model.norm, [large], torch.tensor(1 / RESIDUAL_FACTOR))
    return large


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer like Gemma's: byte-fallback BPE, spaces as underscores, <bos> TEXT <eos>."""
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, 4096) - len(alphabet),
        special_tokens=[*SPECIAL],
        show_progress=False,
    )
    trained.train_from_iterator([*SENTENCES, long_text(4)], trainer)
    trained.add_tokens(alphabet)
    trained.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
    )


def run(build: Callable[..., Path], sizes: Mapping[str, object], *, what: str) -> None:
    """Write a model as the command line asks."""
    parser = argparse.ArgumentParser(description=f"Write {what} with random weights.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--size", choices=sizes, default="full")
    parser.add_argument(
        "--outliers", action="store_true", help="with the large activations of trained models"
    )
    arguments = parser.parse_args()
    directory = build(arguments.directory, sizes[arguments.size], outliers=arguments.outliers)
    print(f"{directory}: random weights, its vectors are meaningless")


if __name__ == "__main__":
    run(build, SIZES, what="EmbeddingGemma's architecture")
