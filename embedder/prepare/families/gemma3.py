"""EmbeddingGemma: the text model of Gemma 3, with bidirectional attention."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.calibration import Calibration, balance
from embedder.prepare.errors import ModelConfigError
from embedder.prepare.families.family import Family, Golden, NativeForm
from embedder.prepare.layout import interleaved, rounded
from embedder.prepare.parts import Parts, floats
from embedder.prepare.quantise import Floats
from embedder.prepare.rotation import block_size, orthogonal, rotated_outputs
from embedder.prepare.weight import Linear, Table, Vector, Weight

MODEL_ID = "google/embeddinggemma-300m"
ARCHITECTURES = ("gemma3_text",)
SIZES = (512, 256, 128)  # from the model card
# The model card, "Prompt Instructions". config_sentence_transformers.json has most of them too,
# under other names.
PROMPTS: Mapping[str, str] = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "question_answering": "task: question answering | query: ",
    "fact_checking": "task: fact checking | query: ",
    "classification": "task: classification | query: ",
    "clustering": "task: clustering | query: ",
    "similarity": "task: sentence similarity | query: ",
    "code": "task: code retrieval | query: ",
}
GOLDEN = Golden(
    query="Which planet is known as the Red Planet?",
    documents=(
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    ),
    similarities=(0.3011, 0.6359, 0.4930, 0.4889),
    tolerance=0.03,  # int8 stays within it; a lost prompt or a causal mask does not
    source=f"model card, huggingface.co/{MODEL_ID}, with encode_query and encode_document",
)
ONE = np.float32(1)


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
    def of(cls, layer: nn.Module, calibration: Calibration) -> "Factors":
        """All 1 without a calibration."""
        attention, mlp = layer.self_attn, layer.mlp
        heads = (-1, attention.num_key_value_groups, attention.head_dim)

        def found(reader: nn.Module, *matrices: nn.Module) -> tuple[Floats, Floats]:
            squares = sum((floats(module.weight) ** 2).sum(axis=0) for module in matrices)
            gram = calibration.gram(reader)
            return (squares if gram is None else gram.diagonal()), squares

        attended = found(attention.o_proj, attention.o_proj)
        values = balance(*(energy.reshape(heads).sum(axis=1) for energy in attended))
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return cls(
            attention=balance(*found(attention.q_proj, *projections)),
            values=values.ravel(),
            attended=np.repeat(values[:, None], heads[1], axis=1).ravel(),
            mlp=balance(*found(mlp.gate_proj, mlp.gate_proj, mlp.up_proj)),
            inner=balance(*found(mlp.down_proj, mlp.down_proj)),
        )


def engine_config(parts: Parts, *, precision: str, max_tokens: int) -> EngineConfig:
    """Raises UnsupportedModelError."""
    _check_supported(parts)
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


def calibrated(parts: Parts) -> Iterator[nn.Module]:
    """One module for each product input that int8 weights are rounded for."""
    for layer in parts.transformer.layers:
        yield layer.self_attn.q_proj
        yield layer.self_attn.o_proj
        yield layer.mlp.gate_proj
        yield layer.mlp.down_proj


def weights(
    parts: Parts, calibration: Calibration, *, rotated: bool, max_tokens: int
) -> Iterator[Weight]:
    """Every tensor of the model file, in its order; the table, which may end anywhere, is last.

    The arguments are those of `NativeForm.weights`.
    """
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
        balanced = out / factors.attended
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
        gram=lambda: _scaled(calibration.gram(attention.o_proj), factors.attended),
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
    """Gemma's RMSNorm multiplies by 1 + weight. `factors` are folded into it."""
    return Vector(name=name, values=(1 + floats(norm.weight)) * factors)


def _angles(kind: str, transformer: nn.Module, max_tokens: int) -> Iterator[Vector]:
    """Cosines and sines of the rotary embedding, (max_tokens, head_dim / 2) each.

    rotate_half uses the same angles for both halves of a head. A model that has only one kind of
    layer gets its angles under both names.
    """
    kinds = transformer.config.layer_types
    wanted = f"{kind}_attention" if f"{kind}_attention" in kinds else kinds[0]
    both = transformer.rotary_emb(torch.zeros(1), torch.arange(max_tokens)[None], wanted)
    for name, angles in zip(("cos", "sin"), both, strict=True):
        half = angles.shape[-1] // 2
        values = np.ascontiguousarray(floats(angles[0, :, :half]))
        yield Vector(name=f"rope.{kind}.{name}", values=values)


def _check_supported(parts: Parts) -> None:
    """Raises UnsupportedModelError for what the engine would silently compute differently."""
    config = parts.config
    expected = {
        "use_bidirectional_attention": True,  # transformers < 4.57 ignores it
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
    }
    for name, value in expected.items():
        if (actual := getattr(config, name, None)) != value:
            raise parts.unsupported(f"{name} is {actual!r}, the forward pass needs {value!r}")
    if config.head_dim % 32:  # the engine rotates the two halves of a head, 16 values at a time
        raise parts.unsupported(f"head_dim is {config.head_dim}, not a multiple of 32")


def check_config(raw_config: Mapping[str, Any], loaded_config: Any) -> None:
    """Refuse a `sliding_window` that a save has halved. Raises ModelConfigError.

    config.json has the whole window (512), the loaded configuration one side + 1 (257). Some
    versions of transformers save the latter, so every save and load halves the window. A whole
    window is even; an odd one shows such a save.
    """
    if not raw_config.get("use_bidirectional_attention"):
        return
    raw, loaded = raw_config["sliding_window"], loaded_config.sliding_window
    if raw % 2 or loaded != raw // 2 + 1:
        raise ModelConfigError(
            f"config.json has sliding_window {raw}, loaded as {loaded}: a save has halved it; "
            "take config.json from the original model"
        )


def prompts(own: Mapping[str, str]) -> dict[str, str]:
    """An EmbeddingGemma's own prompts by name, and the others that its authors publish."""
    published = PROMPTS if own.get("query") == PROMPTS["query"] else {}
    return {**published, **own}


FAMILY = Family(
    architectures=ARCHITECTURES,
    native=NativeForm(engine_config=engine_config, calibrated=calibrated, weights=weights),
    check_config=check_config,
    sizes=SIZES,
    prompts=prompts,
    golden={MODEL_ID: GOLDEN},
    gated=frozenset({MODEL_ID}),
)
