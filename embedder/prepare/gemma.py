"""EmbeddingGemma's parameters, Gemma 3 text, by the names that the native engine reads."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.errors import ModelConfigError
from embedder.prepare.layout import interleaved, rounded
from embedder.prepare.parts import Parts, floats, linear
from embedder.prepare.quantise import Floats
from embedder.prepare.rotation import block_size, orthogonal, rotated_outputs
from embedder.prepare.weight import Linear, Table, Vector, Weight

ARCHITECTURES = ("gemma3_text",)


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


def weights(parts: Parts, *, rotated: bool, max_tokens: int) -> Iterator[Weight]:
    """`rotated`: values of the attention are transformed, which `o` undoes."""
    transformer = parts.transformer
    for index, layer in enumerate(transformer.layers):
        yield from _attention(f"layers.{index}", layer.self_attn, rotated=rotated)
        yield from _mlp(f"layers.{index}", layer.mlp)
        norms = {
            "attention_norm": layer.input_layernorm,
            "attention_out_norm": layer.post_attention_layernorm,
            "mlp_norm": layer.pre_feedforward_layernorm,
            "mlp_out_norm": layer.post_feedforward_layernorm,
        }
        for name, norm in norms.items():
            yield _norm(f"layers.{index}.{name}", norm)
    yield _norm("norm", transformer.norm)
    for kind in ("sliding", "full"):
        yield from _angles(kind, transformer, max_tokens)
    yield from parts.dense_linears()
    words = transformer.embed_tokens
    yield Table(name="embedding", table=floats(words.weight), factor=float(words.embed_scale))


def _attention(name: str, attention: nn.Module, *, rotated: bool) -> Iterator[Weight]:
    q, k, v = (
        floats(projection.weight)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    out, size = floats(attention.o_proj.weight), block_size(attention.head_dim)

    def qkv() -> Floats:
        return np.concatenate([q, k, rotated_outputs(v, size) if rotated else v])

    yield Linear(name=f"{name}.qkv", n=len(q) + len(k) + len(v), k=q.shape[1], matrix=qkv)
    yield Linear(
        name=f"{name}.o", n=out.shape[0], k=out.shape[1], rotated=False,
        matrix=lambda: orthogonal(out, size) if rotated else out,
    )  # fmt: skip
    yield _norm(f"{name}.q_norm", attention.q_norm, factor=attention.scaling)
    yield _norm(f"{name}.k_norm", attention.k_norm)


def _mlp(name: str, mlp: nn.Module) -> Iterator[Weight]:
    gate, up = floats(mlp.gate_proj.weight), floats(mlp.up_proj.weight)
    yield Linear(
        name=f"{name}.gate_up", n=2 * rounded(len(gate)), k=gate.shape[1],
        matrix=lambda: interleaved(gate, up),
    )  # fmt: skip
    yield linear(f"{name}.down", mlp.down_proj)


def _norm(name: str, norm: nn.Module, factor: float = 1.0) -> Vector:
    """Gemma's RMSNorm multiplies by 1 + weight; a factor that follows is in it."""
    return Vector(name=name, values=(1 + floats(norm.weight)) * np.float32(factor))


def _angles(kind: str, transformer: nn.Module, max_tokens: int) -> Iterator[Vector]:
    """Cosines and sines by position; rotate_half makes both halves of a head turn alike."""
    positions = torch.arange(max_tokens)[None]
    both = transformer.rotary_emb(torch.zeros(1), positions, f"{kind}_attention")
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
