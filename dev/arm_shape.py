"""A model with EmbeddingGemma's sizes, random weights and few layers, for counting instructions.

All layers cost the same on texts shorter than the sliding window.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.engine_config import EngineConfig
from embedder.prepare import model_file
from embedder.prepare.weight import Linear, Table, Vector, Weight

LAYERS = 24
WIDTH, FFN, HEADS, HEAD_DIM = 768, 1152, 3, 256
DENSE = (3072, 768)
VOCABULARY, POSITIONS, WINDOW = 256, 256, 257
# Weights in the matrix products of one layer.
PER_LAYER = WIDTH * ((HEADS + 2) * HEAD_DIM + HEADS * HEAD_DIM + 3 * FFN)

_generator = np.random.default_rng(0)


def config(layers: int) -> EngineConfig:
    """The shape of the model, with so many layers."""
    return EngineConfig(
        family="gemma3", precision="int8", layers=layers, width=WIDTH, ffn=FFN, heads=HEADS,
        kv_heads=1, head_dim=HEAD_DIM, vocabulary=VOCABULARY, positions=POSITIONS, window=WINDOW,
        activation="gelu_tanh", pooling="mean", dense_width=DENSE,
        dense_activation=("identity", "identity"), sliding=(True,) * layers, norm_epsilon=1e-6,
    )  # fmt: skip


def write(path: Path, layers: int) -> None:
    """Write a model file with random weights."""
    weights = [weight for i in range(layers) for weight in _layer(f"layers.{i}")]
    for i, (k, n) in enumerate(zip((WIDTH, *DENSE), DENSE, strict=False)):
        weights.append(_linear(f"dense.{i}", n, k))
    for kind in ("sliding", "full"):
        weights.append(Vector(name=f"rope.{kind}.cos", values=_random(POSITIONS, HEAD_DIM // 2)))
        weights.append(Vector(name=f"rope.{kind}.sin", values=_random(POSITIONS, HEAD_DIM // 2)))
    weights.append(Vector(name="norm", values=_random(WIDTH)))
    weights.append(Table(name="embedding", table=_random(VOCABULARY, WIDTH)))
    model_file.write(path, config(layers), weights)


def _layer(name: str) -> Iterator[Weight]:
    yield _linear(f"{name}.qkv", (HEADS + 2) * HEAD_DIM, WIDTH)
    yield _linear(f"{name}.o", WIDTH, HEADS * HEAD_DIM)
    yield _linear(f"{name}.gate_up", 2 * FFN, WIDTH)
    yield _linear(f"{name}.down", WIDTH, FFN)
    for norm in ("attention_norm", "attention_out_norm", "mlp_norm", "mlp_out_norm"):
        yield Vector(name=f"{name}.{norm}", values=_random(WIDTH))
    for norm in ("q_norm", "k_norm"):
        yield Vector(name=f"{name}.{norm}", values=_random(HEAD_DIM))


def _linear(name: str, n: int, k: int) -> Linear:
    return Linear(name=name, n=n, k=k, matrix=lambda: _random(n, k))


def _random(*shape: int) -> NDArray[np.float32]:
    return _generator.standard_normal(shape, np.float32)
