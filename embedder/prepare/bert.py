"""The parameters of BERT and its relatives with absolute positions, as the native engine reads them."""

from collections.abc import Iterator, Mapping

import numpy as np
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.parts import Parts, floats, linear
from embedder.prepare.quantise import Floats
from embedder.prepare.rotation import block_size, orthogonal, rotated_outputs
from embedder.prepare.weight import Linear, Table, Vector, Weight

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "camembert")
ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def engine_config(parts: Parts, *, precision: str, max_tokens: int) -> EngineConfig:
    """Raises UnsupportedModelError."""
    check_config(parts)
    config = parts.config
    return EngineConfig(
        family="bert",
        precision=precision,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        ffn=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        vocabulary=len(parts.transformer.embeddings.word_embeddings.weight),
        positions=max_tokens,
        window=0,
        activation=ACTIVATIONS[config.hidden_act],
        pooling=parts.pooling,
        dense_width=parts.dense_widths,
        dense_activation=parts.dense_activations,
        sliding=(False,) * config.num_hidden_layers,
        norm_epsilon=config.layer_norm_eps,
    )


def check_config(parts: Parts) -> None:
    """Refuse what the engine's forward pass would silently compute differently."""
    config = parts.config
    if config.is_decoder or getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise parts.unsupported("it is a decoder or has relative positions")
    if config.hidden_act not in ACTIVATIONS:
        raise parts.unsupported(
            f"hidden_act is {config.hidden_act!r}, not one of {', '.join(ACTIVATIONS)}"
        )


def weights(parts: Parts, *, rotated: bool, max_tokens: int) -> Iterator[Weight]:
    """`rotated`: values of the attention are transformed, which `o` undoes."""
    embeddings = parts.transformer.embeddings
    yield Vector(name="positions", values=_positions(parts, max_tokens))
    yield from _norm("embedding_norm", embeddings.LayerNorm)
    for index, layer in enumerate(parts.transformer.encoder.layer):
        name = f"layers.{index}"
        yield from _attention(name, layer.attention, rotated=rotated)
        yield linear(f"{name}.up", layer.intermediate.dense)
        yield linear(f"{name}.down", layer.output.dense)
        yield from _norm(f"{name}.attention_norm", layer.attention.output.LayerNorm)
        yield from _norm(f"{name}.mlp_norm", layer.output.LayerNorm)
    yield from parts.dense_linears()
    yield Table(name="embedding", table=floats(embeddings.word_embeddings.weight))


def _positions(parts: Parts, max_tokens: int) -> Floats:
    """(max_tokens, width), with the token type of every text, 0, added.

    RoBERTa counts from padding_idx + 1 (transformers, create_position_ids_from_input_ids).
    """
    embeddings = parts.transformer.embeddings
    first = 0 if parts.config.model_type == "bert" else embeddings.padding_idx + 1
    positions = floats(embeddings.position_embeddings.weight)[first : first + max_tokens]
    total: Floats = positions + floats(embeddings.token_type_embeddings.weight)[0]
    return total


def _attention(name: str, attention: nn.Module, *, rotated: bool) -> Iterator[Linear]:
    """The scores' 1 / sqrt(head_dim) is in q."""
    own, out = attention.self, attention.output.dense
    scaling = np.float32(own.attention_head_size**-0.5)
    size = block_size(own.attention_head_size)

    def joined(q: Floats, k: Floats, v: Floats) -> Floats:
        return np.concatenate([q * scaling, k, rotated_outputs(v, size) if rotated else v])

    def qkv() -> Floats:
        return joined(*(floats(part.weight) for part in (own.query, own.key, own.value)))

    width = own.all_head_size
    bias = joined(*(floats(part.bias) for part in (own.query, own.key, own.value)))
    yield Linear(name=f"{name}.qkv", n=3 * width, k=own.query.in_features, matrix=qkv, bias=bias)
    yield Linear(
        name=f"{name}.o", n=out.out_features, k=width, bias=floats(out.bias), rotated=False,
        matrix=lambda: orthogonal(floats(out.weight), size) if rotated else floats(out.weight),
    )  # fmt: skip


def _norm(name: str, norm: nn.LayerNorm) -> Iterator[Vector]:
    yield Vector(name=f"{name}.weight", values=floats(norm.weight))
    yield Vector(name=f"{name}.bias", values=floats(norm.bias))
