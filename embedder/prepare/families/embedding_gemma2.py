"""EmbeddingGemma 2: the text encoder, without the parts that read images and sound."""

from collections.abc import Iterator

import numpy as np
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.calibration import Calibration, balance
from embedder.prepare.families import gemma
from embedder.prepare.families.family import Family, NativeForm
from embedder.prepare.families.gemma import Factors, energies, scaled
from embedder.prepare.parts import Parts, floats
from embedder.prepare.quantise import Floats
from embedder.prepare.weight import Linear, Table, Vector, Weight

ARCHITECTURES = ("embedding_gemma2_text",)
# From the model card. The model's files allow 262,144 positions, and sentence-transformers does not
# truncate.
MAX_TOKENS = 8192


def engine_config(parts: Parts, *, precision: str, max_tokens: int) -> EngineConfig:
    """Raises UnsupportedModelError."""
    _check_supported(parts)
    config = parts.config
    sliding = tuple(kind == "sliding_attention" for kind in config.layer_types)
    kv_heads, head_dim = _heads(parts, "sliding_attention")
    full_kv_heads, full_head_dim = _heads(parts, "full_attention")
    return EngineConfig(
        family="embedding_gemma2",
        precision=precision,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        ffn=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        full_kv_heads=full_kv_heads,
        full_head_dim=full_head_dim,
        per_layer=config.hidden_size_per_layer_input,
        vocabulary=len(parts.transformer.embed_tokens.weight),
        positions=max_tokens,
        # |i - j| <= sliding_window, and the engine reads |i - j| < window.
        window=config.sliding_window + 1 if any(sliding) else 0,
        activation="gelu_tanh",
        pooling=parts.pooling,
        dense_width=(config.embedding_dim, *parts.dense_widths),
        dense_activation=("identity", *parts.dense_activations),
        sliding=sliding,
        norm_epsilon=config.rms_norm_eps,
    )


def _check_supported(parts: Parts) -> None:
    gemma.check_fields(parts, {"attention_bias": False, "hidden_activation": "gelu_pytorch_tanh"})
    for layer in parts.transformer.layers:
        gemma.check_head_dim(parts, layer.self_attn.head_dim)


def _heads(parts: Parts, kind: str) -> tuple[int, int]:
    """Key/value heads and values per head of a kind of layers; of the others if there is none."""
    kinds = parts.config.layer_types
    index = kinds.index(kind) if kind in kinds else 0
    attention = parts.transformer.layers[index].self_attn
    return attention.k_proj.out_features // attention.head_dim, attention.head_dim


def calibrated(parts: Parts) -> Iterator[nn.Module]:
    """One module for each product input that int8 weights are rounded for."""
    yield parts.transformer.ple.per_layer_model_projection
    for layer in parts.transformer.layers:
        yield layer.self_attn.q_proj
        yield layer.self_attn.o_proj
        yield layer.mlp.gate_proj
        yield layer.mlp.down_proj
        yield layer.ple_block.per_layer_input_gate
        yield layer.ple_block.per_layer_projection


def weights(
    parts: Parts, calibration: Calibration, *, rotated: bool, max_tokens: int
) -> Iterator[Weight]:
    """Every tensor of the model file, in its order; the table, which may end anywhere, is last.

    The arguments are those of `NativeForm.weights`.
    """
    transformer = parts.transformer
    projection = transformer.ple.per_layer_model_projection
    project_factors = balance(*energies(calibration, projection, projection))
    for index, layer in enumerate(transformer.layers):
        name = f"layers.{index}"
        # Values are rotated before their norm, which a rotation does not change.
        factors = Factors.of(layer, calibration, values_normed=True)
        yield from gemma.layer_weights(
            name, layer, calibration, factors, gain=_gain, rotated=rotated
        )
        yield _project(f"{name}.per_layer.project", transformer.ple, index, calibration,
                       project_factors)  # fmt: skip
        yield from _per_layer(f"{name}.per_layer", transformer.ple, layer.ple_block, calibration)
    yield Vector(name="per_layer.project_factors", values=project_factors)
    scalars = [floats(layer.layer_scalar) for layer in transformer.layers]
    yield Vector(name="layer_scalars", values=np.concatenate(scalars))
    yield Vector(name="norm", values=_gain(transformer.norm))
    yield from gemma.angles(transformer, max_tokens)
    yield from _dense(parts)
    words = transformer.embed_tokens
    yield Table(name="embedding", table=floats(words.weight), factor=float(words.embed_scale))


def _gain(norm: nn.Module) -> Floats:
    """This RMSNorm multiplies by its weight; that of Gemma 3 by 1 + weight."""
    return floats(norm.weight)


def _project(
    name: str, ple: nn.Module, index: int, calibration: Calibration, factors: Floats
) -> Linear:
    """A layer's part of the projection of token embeddings."""
    projection, width = ple.per_layer_model_projection, ple.hidden_size_per_layer_input
    own = floats(projection.weight)[index * width : (index + 1) * width]
    scale = np.float32(ple.per_layer_model_projection_scale)
    return Linear(
        name=name,
        n=width,
        k=own.shape[1],
        matrix=lambda: own * scale / factors,
        gram=lambda: scaled(calibration.gram(projection), factors),
    )


def _per_layer(
    name: str, ple: nn.Module, block: nn.Module, calibration: Calibration
) -> Iterator[Weight]:
    gate, out = block.per_layer_input_gate, block.per_layer_projection
    gate_factors = balance(*energies(calibration, gate, gate))
    out_factors = balance(*energies(calibration, out, out))
    yield gemma.balanced(f"{name}.gate", gate, calibration, gate_factors)
    yield gemma.balanced(f"{name}.out", out, calibration, out_factors)
    yield Vector(name=f"{name}.norm", values=_gain(ple.per_layer_projection_norm) * out_factors)
    yield Vector(name=f"{name}.gate_factors", values=gate_factors)
    yield Vector(name=f"{name}.out_norm", values=_gain(block.post_per_layer_input_norm))


def _dense(parts: Parts) -> Iterator[Linear]:
    """The projection of each token's state, which commutes with the pooling, then Dense layers."""
    matrix = floats(parts.transformer.embedding_projection.weight)
    yield Linear(name="dense.0", n=len(matrix), k=matrix.shape[1], matrix=lambda: matrix)
    yield from parts.dense_linears(first=1)


FAMILY = Family(
    architectures=ARCHITECTURES,
    native=NativeForm(engine_config=engine_config, calibrated=calibrated, weights=weights),
    max_tokens=MAX_TOKENS,
    sizes=gemma.SIZES,
)
