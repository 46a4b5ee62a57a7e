"""BERT and its relatives with absolute positions: RoBERTa, XLM-RoBERTa and CamemBERT."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.calibration import Calibration
from embedder.prepare.families.family import Family, NativeForm
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
    _check_supported(parts)
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


def _check_supported(parts: Parts) -> None:
    """Raises UnsupportedModelError for what the engine would silently compute differently."""
    config = parts.config
    if config.is_decoder or getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise parts.unsupported("it is a decoder or has relative positions")
    if config.hidden_act not in ACTIVATIONS:
        raise parts.unsupported(
            f"hidden_act is {config.hidden_act!r}, not one of {', '.join(ACTIVATIONS)}"
        )


def calibrated(parts: Parts) -> Iterator[nn.Module]:
    """One module for each product input that int8 weights are rounded for."""
    for layer in parts.transformer.encoder.layer:
        yield layer.attention.self.query
        yield layer.attention.output.dense
        yield layer.intermediate.dense
        yield layer.output.dense


def weights(
    parts: Parts, calibration: Calibration, *, rotated: bool, max_tokens: int
) -> Iterator[Weight]:
    """Every tensor of the model file, in its order; the table, which may end anywhere, is last.

    The arguments are those of `NativeForm.weights`.
    """
    embeddings = parts.transformer.embeddings
    yield Vector(name="positions", values=_positions(parts, max_tokens))
    yield from _norm("embedding_norm", embeddings.LayerNorm)
    for index, layer in enumerate(parts.transformer.encoder.layer):
        name = f"layers.{index}"
        yield from _attention(name, layer.attention, calibration, rotated=rotated)
        yield linear(f"{name}.up", layer.intermediate.dense, calibration)
        yield linear(f"{name}.down", layer.output.dense, calibration)
        yield from _norm(f"{name}.attention_norm", layer.attention.output.LayerNorm)
        yield from _norm(f"{name}.mlp_norm", layer.output.LayerNorm)
    yield from parts.dense_linears()
    yield Table(name="embedding", table=floats(embeddings.word_embeddings.weight))


def first_position(config: Any) -> int:
    """RoBERTa counts from padding_idx + 1 (transformers, create_position_ids_from_input_ids)."""
    return 0 if config.model_type == "bert" else int(config.pad_token_id) + 1


def _positions(parts: Parts, max_tokens: int) -> Floats:
    """(max_tokens, width). The embedding of token type 0, which every token has, is added."""
    embeddings = parts.transformer.embeddings
    first = first_position(parts.config)
    positions = floats(embeddings.position_embeddings.weight)[first : first + max_tokens]
    total: Floats = positions + floats(embeddings.token_type_embeddings.weight)[0]
    return total


def _attention(
    name: str, attention: nn.Module, calibration: Calibration, *, rotated: bool
) -> Iterator[Linear]:
    """`qkv` and `o`. The factor 1 / sqrt(head_dim) of the scores is part of q's weights."""
    own, out = attention.self, attention.output.dense
    scaling = np.float32(own.attention_head_size**-0.5)
    size, width = block_size(own.attention_head_size), own.all_head_size

    def joined(q: Floats, k: Floats, v: Floats) -> Floats:
        return np.concatenate([q * scaling, k, rotated_outputs(v, size) if rotated else v])

    yield Linear(
        name=f"{name}.qkv",
        n=3 * width,
        k=own.query.in_features,
        matrix=lambda: joined(*(floats(part.weight) for part in (own.query, own.key, own.value))),
        bias=joined(*(floats(part.bias) for part in (own.query, own.key, own.value))),
        gram=lambda: calibration.gram(own.query),
    )
    yield Linear(
        name=f"{name}.o",
        n=out.out_features,
        k=width,
        matrix=lambda: orthogonal(floats(out.weight), size) if rotated else floats(out.weight),
        bias=floats(out.bias),
        gram=lambda: calibration.gram(out),
        rotated_by=size,
    )


def _norm(name: str, norm: nn.LayerNorm) -> Iterator[Vector]:
    yield Vector(name=f"{name}.weight", values=floats(norm.weight))
    yield Vector(name=f"{name}.bias", values=floats(norm.bias))


FAMILY = Family(
    architectures=ARCHITECTURES,
    native=NativeForm(engine_config=engine_config, calibrated=calibrated, weights=weights),
    first_position=first_position,
)
