"""What the families of Gemma share: attention, the feed-forward layer and their norms."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from embedder.prepare.calibration import Calibration, balance
from embedder.prepare.layout import interleaved, rounded
from embedder.prepare.parts import Parts, floats
from embedder.prepare.quantise import Floats
from embedder.prepare.rotation import block_size, orthogonal, rotated_outputs
from embedder.prepare.weight import Linear, Vector, Weight

SIZES = (512, 256, 128)  # from the model cards
ONE = np.float32(1)
Gain = Callable[[nn.Module], Floats]  # what a norm multiplies by


@dataclass(frozen=True)
class Factors:
    """What the inputs of one layer's products are multiplied by, and their weights divided by.

    The factors are folded into the norms and products before, so the engine does no extra work.
    Trained models have channels that are 1,000 times as large as others; without the factors those
    would use up the range of int8.
    """

    attention: Floats  # (width,)
    values: Floats  # (kv_heads * head_dim,)
    attended: Floats  # (heads * head_dim,), those of the values, repeated for each query head
    mlp: Floats  # (width,)
    inner: Floats  # (ffn,)

    @classmethod
    def of(
        cls, layer: nn.Module, calibration: Calibration, *, values_normed: bool = False
    ) -> "Factors":
        """All 1 without a calibration. Those of normed values are 1, since a norm undoes them."""
        attention, mlp = layer.self_attn, layer.mlp
        heads = (-1, attention.num_key_value_groups, attention.head_dim)
        attended = energies(calibration, attention.o_proj, attention.o_proj)
        values = balance(*(energy.reshape(heads).sum(axis=1) for energy in attended))
        if values_normed:
            values = np.ones_like(values)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return cls(
            attention=balance(*energies(calibration, attention.q_proj, *projections)),
            values=values.ravel(),
            attended=np.repeat(values[:, None], heads[1], axis=1).ravel(),
            mlp=balance(*energies(calibration, mlp.gate_proj, mlp.gate_proj, mlp.up_proj)),
            inner=balance(*energies(calibration, mlp.down_proj, mlp.down_proj)),
        )


def energies(
    calibration: Calibration, reader: nn.Module, *matrices: nn.Module
) -> tuple[Floats, Floats]:
    """Sums of squares by input, (k,): of the activations that `reader` reads, and of weights.

    Both are those of the weights without a calibration, so that nothing is balanced.
    """
    squares: Floats = sum((floats(module.weight) ** 2).sum(axis=0) for module in matrices)
    gram = calibration.gram(reader)
    return (squares if gram is None else gram.diagonal()), squares


def layer_weights(
    name: str, layer: nn.Module, calibration: Calibration, factors: Factors, *,
    gain: Gain, rotated: bool,
) -> Iterator[Weight]:  # fmt: skip
    """The products of a layer and its norms; `rotated` as in `NativeForm.weights`."""
    yield from _attention(name, layer, calibration, factors, gain=gain, rotated=rotated)
    yield from _mlp(name, layer, calibration, factors)
    norms: Mapping[str, tuple[nn.Module, Floats | np.float32]] = {
        "attention_norm": (layer.input_layernorm, factors.attention),
        "attention_out_norm": (layer.post_attention_layernorm, ONE),
        "mlp_norm": (layer.pre_feedforward_layernorm, factors.mlp),
        "mlp_out_norm": (layer.post_feedforward_layernorm, ONE),
    }
    for part, (norm, folded) in norms.items():
        yield Vector(name=f"{name}.{part}", values=gain(norm) * folded)


def _attention(
    name: str, layer: nn.Module, calibration: Calibration, factors: Factors, *,
    gain: Gain, rotated: bool,
) -> Iterator[Weight]:  # fmt: skip
    attention = layer.self_attn
    q, k, v, out = (floats(getattr(attention, f"{part}_proj").weight) for part in "qkvo")
    size = block_size(attention.head_dim)

    def qkv() -> Floats:
        values = v * factors.values[:, None]
        rows = [q, k, rotated_outputs(values, size) if rotated else values]
        matrix: Floats = np.concatenate(rows)
        return matrix / factors.attention

    def o() -> Floats:
        balanced = out / factors.attended
        return orthogonal(balanced, size) if rotated else balanced

    yield Linear(
        name=f"{name}.qkv",
        n=len(q) + len(k) + len(v),
        k=q.shape[1],
        matrix=qkv,
        gram=lambda: scaled(calibration.gram(attention.q_proj), factors.attention),
    )
    yield Linear(
        name=f"{name}.o",
        n=out.shape[0],
        k=out.shape[1],
        matrix=o,
        gram=lambda: scaled(calibration.gram(attention.o_proj), factors.attended),
        rotated_by=size,
    )
    scaling = np.float32(attention.scaling)
    yield Vector(name=f"{name}.q_norm", values=gain(attention.q_norm) * scaling)
    yield Vector(name=f"{name}.k_norm", values=gain(attention.k_norm))


def _mlp(
    name: str, layer: nn.Module, calibration: Calibration, factors: Factors
) -> Iterator[Weight]:
    mlp = layer.mlp
    gate, up = floats(mlp.gate_proj.weight), floats(mlp.up_proj.weight)
    yield Linear(
        name=f"{name}.gate_up",
        n=2 * rounded(len(gate)),
        k=gate.shape[1],
        matrix=lambda: interleaved(gate, up * factors.inner[:, None]) / factors.mlp,
        gram=lambda: scaled(calibration.gram(mlp.gate_proj), factors.mlp),
    )
    yield balanced(f"{name}.down", mlp.down_proj, calibration, factors.inner)


def balanced(name: str, module: nn.Module, calibration: Calibration, factors: Floats) -> Linear:
    """A product whose inputs are multiplied by `factors`."""
    return Linear(
        name=name,
        n=module.out_features,
        k=module.in_features,
        matrix=lambda: floats(module.weight) / factors,
        gram=lambda: scaled(calibration.gram(module), factors),
    )


def scaled(gram: Floats | None, factors: Floats) -> Floats | None:
    """x.T @ x of inputs that are multiplied by `factors`."""
    return None if gram is None else gram * factors * factors[:, None]


def angles(transformer: nn.Module, max_tokens: int) -> Iterator[Vector]:
    """Cosines and sines of the rotary embedding of both kinds of layers.

    (max_tokens, head_dim / 2) each: rotate_half uses the same angles for both halves of a head. A
    model that has only one kind of layer gets its angles under both names.
    """
    kinds = transformer.config.layer_types
    for kind in ("sliding", "full"):
        wanted = f"{kind}_attention" if f"{kind}_attention" in kinds else kinds[0]
        both = transformer.rotary_emb(torch.zeros(1), torch.arange(max_tokens)[None], wanted)
        for name, values in zip(("cos", "sin"), both, strict=True):
            half = values.shape[-1] // 2
            kept = np.ascontiguousarray(floats(values[0, :, :half]))
            yield Vector(name=f"rope.{kind}.{name}", values=kept)


def check_fields(parts: Parts, expected: Mapping[str, object]) -> None:
    """Raises UnsupportedModelError for what the engine would silently compute differently."""
    config = parts.transformer.config
    for name, value in expected.items():
        if (actual := getattr(config, name, None)) != value:
            raise parts.unsupported(f"{name} is {actual!r}, the forward pass needs {value!r}")


def check_head_dim(parts: Parts, head_dim: int) -> None:
    """Raises UnsupportedModelError."""
    if head_dim % 32:  # the engine rotates the two halves of a head, 16 values at a time
        raise parts.unsupported(f"head_dim is {head_dim}, not a multiple of 32")
