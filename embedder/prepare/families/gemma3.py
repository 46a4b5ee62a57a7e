"""EmbeddingGemma's parameters, Gemma 3 text, by the names that the native engine reads."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.calibration import Calibration, balance
from embedder.prepare.errors import ModelConfigError
from embedder.prepare.layout import interleaved, rounded
from embedder.prepare.parts import Parts, floats
from embedder.prepare.quantise import Floats
from embedder.prepare.rotation import block_size, orthogonal, rotated_outputs
from embedder.prepare.weight import Linear, Table, Vector, Weight

ARCHITECTURES = ("gemma3_text",)
ONE = np.float32(1)


@dataclass(frozen=True)
class Factors:
    """What the inputs of one layer's products are multiplied by, and their weights divided by.

    It costs the engine nothing: norms and the products before take the factors up. Channels that are
    1,000 times as large as others, as in trained models, would otherwise take int8's whole range.
    """

    attention: Floats  # (width,)
    values: Floats  # (kv_heads * head_dim,)
    mixed: Floats  # (heads * head_dim,), the values' as the query heads read them
    mlp: Floats  # (width,)
    inner: Floats  # (ffn,)

    @classmethod
    def of(cls, layer: nn.Module, calibration: Calibration) -> "Factors":
        """All 1 where nothing was measured."""
        attention, mlp = layer.self_attn, layer.mlp
        heads = (-1, attention.num_key_value_groups, attention.head_dim)

        def found(reader: nn.Module, *matrices: nn.Module) -> tuple[Floats, Floats]:
            squares = sum((floats(module.weight) ** 2).sum(axis=0) for module in matrices)
            gram = calibration.gram(reader)
            return (squares if gram is None else gram.diagonal()), squares

        mixed = found(attention.o_proj, attention.o_proj)
        values = balance(*(energy.reshape(heads).sum(axis=1) for energy in mixed))
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return cls(
            attention=balance(*found(attention.q_proj, *projections)),
            values=values.ravel(),
            mixed=np.repeat(values[:, None], heads[1], axis=1).ravel(),
            mlp=balance(*found(mlp.gate_proj, mlp.gate_proj, mlp.up_proj)),
            inner=balance(*found(mlp.down_proj, mlp.down_proj)),
        )


def engine_config(parts: Parts, *, precision: str, max_tokens: int) -> EngineConfig:
    """Raises UnsupportedModelError."""
    check_config(parts)
    config = parts.config
    sliding = tuple(kind == "sliding_attention" for kind in config.layer_types)
    return EngineConfig(
        family="gemma3",
        precision=precision,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        ffn=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocabulary=len(parts.transformer.embed_tokens.weight),
        positions=max_tokens,
        window=int(config.sliding_window) if any(sliding) else 0,
        activation="gelu_tanh",
        pooling=parts.pooling,
        dense_width=parts.dense_widths,
        dense_activation=parts.dense_activations,
        sliding=sliding,
        norm_epsilon=config.rms_norm_eps,
    )


def measured(parts: Parts) -> Iterator[nn.Module]:
    """One module for each input of a product that int8 is rounded for."""
    for layer in parts.transformer.layers:
        yield layer.self_attn.q_proj
        yield layer.self_attn.o_proj
        yield layer.mlp.gate_proj
        yield layer.mlp.down_proj


def weights(
    parts: Parts, calibration: Calibration, *, rotated: bool, max_tokens: int
) -> Iterator[Weight]:
    """`rotated`: values of the attention are transformed, which `o` undoes."""
    transformer = parts.transformer
    for index, layer in enumerate(transformer.layers):
        name, factors = f"layers.{index}", Factors.of(layer, calibration)
        yield from _attention(name, layer, calibration, factors, rotated=rotated)
        yield from _mlp(name, layer, calibration, factors)
        yield _norm(f"{name}.attention_norm", layer.input_layernorm, factors.attention)
        yield _norm(f"{name}.attention_out_norm", layer.post_attention_layernorm)
        yield _norm(f"{name}.mlp_norm", layer.pre_feedforward_layernorm, factors.mlp)
        yield _norm(f"{name}.mlp_out_norm", layer.post_feedforward_layernorm)
    yield _norm("norm", transformer.norm)
    for kind in ("sliding", "full"):
        yield from _angles(kind, transformer, max_tokens)
    yield from parts.dense_linears()
    words = transformer.embed_tokens
    yield Table(name="embedding", table=floats(words.weight), factor=float(words.embed_scale))


def _attention(
    name: str, layer: nn.Module, calibration: Calibration, factors: Factors, *, rotated: bool
) -> Iterator[Weight]:
    attention = layer.self_attn
    q, k, v, out = (floats(getattr(attention, f"{part}_proj").weight) for part in "qkvo")
    size = block_size(attention.head_dim)

    def qkv() -> Floats:
        values = v * factors.values[:, None]
        rows = [q, k, rotated_outputs(values, size) if rotated else values]
        matrix: Floats = np.concatenate(rows)
        return matrix / factors.attention

    def o() -> Floats:
        balanced = out / factors.mixed
        return orthogonal(balanced, size) if rotated else balanced

    yield Linear(
        name=f"{name}.qkv",
        n=len(q) + len(k) + len(v),
        k=q.shape[1],
        matrix=qkv,
        gram=lambda: _scaled(calibration.gram(attention.q_proj), factors.attention),
    )
    yield Linear(
        name=f"{name}.o",
        n=out.shape[0],
        k=out.shape[1],
        matrix=o,
        gram=lambda: _scaled(calibration.gram(attention.o_proj), factors.mixed),
        rotated_by=size,
    )
    yield _norm(f"{name}.q_norm", attention.q_norm, np.float32(attention.scaling))
    yield _norm(f"{name}.k_norm", attention.k_norm)


def _mlp(
    name: str, layer: nn.Module, calibration: Calibration, factors: Factors
) -> Iterator[Weight]:
    mlp = layer.mlp
    gate, up, down = (
        floats(getattr(mlp, f"{part}_proj").weight) for part in ("gate", "up", "down")
    )
    yield Linear(
        name=f"{name}.gate_up",
        n=2 * rounded(len(gate)),
        k=gate.shape[1],
        matrix=lambda: interleaved(gate, up * factors.inner[:, None]) / factors.mlp,
        gram=lambda: _scaled(calibration.gram(mlp.gate_proj), factors.mlp),
    )
    yield Linear(
        name=f"{name}.down",
        n=down.shape[0],
        k=down.shape[1],
        matrix=lambda: down / factors.inner,
        gram=lambda: _scaled(calibration.gram(mlp.down_proj), factors.inner),
    )


def _scaled(gram: Floats | None, factors: Floats) -> Floats | None:
    return None if gram is None else gram * factors * factors[:, None]


def _norm(name: str, norm: nn.Module, factors: Floats | np.float32 = ONE) -> Vector:
    """Gemma's RMSNorm multiplies by 1 + weight; factors that follow are in it."""
    return Vector(name=name, values=(1 + floats(norm.weight)) * factors)


def _angles(kind: str, transformer: nn.Module, max_tokens: int) -> Iterator[Vector]:
    """Cosines and sines by position; rotate_half makes both halves of a head turn alike.

    A model without layers of one kind has the other's angles for both.
    """
    kinds = transformer.config.layer_types
    wanted = f"{kind}_attention" if f"{kind}_attention" in kinds else kinds[0]
    both = transformer.rotary_emb(torch.zeros(1), torch.arange(max_tokens)[None], wanted)
    for name, angles in zip(("cos", "sin"), both, strict=True):
        half = angles.shape[-1] // 2
        values = np.ascontiguousarray(floats(angles[0, :, :half]))
        yield Vector(name=f"rope.{kind}.{name}", values=values)


def check_config(parts: Parts) -> None:
    """Refuse what the engine's forward pass would silently compute differently."""
    config = parts.config
    expected = {
        "use_bidirectional_attention": True,  # transformers < 4.57 does not know it: causal
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
    }
    for name, value in expected.items():
        if (actual := getattr(config, name, None)) != value:
            raise parts.unsupported(f"{name} is {actual!r}, the forward pass needs {value!r}")


def check_window(raw_window: int, loaded_window: int) -> None:
    """`sliding_window` in config.json is the whole window (512), in memory one side + 1 (257).

    Some versions of transformers save the latter, and every save and load then halves the window.
    A whole window is even; an odd one is the mark of such a save. Raises ModelConfigError.
    """
    if raw_window % 2 or loaded_window != raw_window // 2 + 1:
        raise ModelConfigError(
            f"config.json has sliding_window {raw_window}, loaded as {loaded_window}: it was halved "
            "by a save; take config.json from the original model"
        )
