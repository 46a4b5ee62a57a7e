"""Small models whose files are the same bytes on every machine, and texts for them.

All values are small multiples of powers of two, so that every sum of the preparation is exact.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.engine_config import EngineConfig
from embedder.prepare import model_file
from embedder.prepare.weight import Linear, Table, Vector, Weight

Floats = NDArray[np.float32]
VOCABULARY, POSITIONS, WIDTH, FFN, HEADS, HEAD_DIM, LAYERS = 128, 96, 64, 80, 4, 32, 3
DENSE = (96, 48)
KV_HEADS = {"gemma3": 1, "bert": HEADS, "embedding_gemma2": 2}
# What only EmbeddingGemma 2 has: other heads in full layers, embeddings per layer.
OTHERS = {"full_kv_heads": 1, "full_head_dim": 64, "per_layer": 48}


class Numbers:
    """Multiples of 1 / 64 from a generator that is the same everywhere."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, *shape: int, around: float = 0.0, reach: int = 16) -> Floats:
        whole = self._generator.integers(-reach, reach + 1, shape)
        return (whole / 64 + around).astype(np.float32)


def config(family: str, precision: str) -> EngineConfig:
    gemma = family != "bert"
    others = OTHERS if family == "embedding_gemma2" else {}
    return EngineConfig(
        family=family, precision=precision, layers=LAYERS, width=WIDTH, ffn=FFN, heads=HEADS,
        kv_heads=KV_HEADS[family], head_dim=HEAD_DIM, vocabulary=VOCABULARY, positions=POSITIONS,
        window=9 if gemma else 0,
        activation="gelu_tanh" if gemma else "gelu", pooling="mean" if gemma else "cls",
        dense_width=DENSE, dense_activation=("tanh", "identity"),
        sliding=(gemma, False, gemma), norm_epsilon=2.0**-20, **others,
    )  # fmt: skip


def write(path: Path, family: str, precision: str) -> None:
    numbers = Numbers(seed=len(family))
    shape = config(family, precision)
    weights = WEIGHTS[family](numbers, shape)
    model_file.write(path, shape, [*weights, *_dense(numbers), _table(numbers)])


def texts() -> list[NDArray[np.int64]]:
    """Lengths at the edges of a block, a panel, a window and a chunk."""
    generator = np.random.Generator(np.random.PCG64(7))
    lengths = (1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 48, 64, 65, 95, POSITIONS)
    return [generator.integers(0, VOCABULARY, length) for length in lengths]


def _linear(name: str, n: int, k: int, numbers: Numbers, *, bias: bool = False) -> Linear:
    matrix = numbers(n, k)
    return Linear(name=name, n=n, k=k, matrix=lambda: matrix, bias=numbers(n) if bias else None)


def _vectors(names: Sequence[str], width: int, numbers: Numbers, around: float) -> Iterator[Vector]:
    for name in names:
        yield Vector(name=name, values=numbers(width, around=around))


def _gemma(numbers: Numbers, shape: EngineConfig) -> Iterator[Weight]:
    norms = ("attention_norm", "attention_out_norm", "mlp_norm", "mlp_out_norm")
    for i, sliding in enumerate(shape.sliding):
        layer = f"layers.{i}"
        kv_heads, dim = shape.kv_heads_by_kind[sliding], shape.head_dim_by_kind[sliding]
        yield _linear(f"{layer}.qkv", (HEADS + 2 * kv_heads) * dim, WIDTH, numbers)
        yield _linear(f"{layer}.o", WIDTH, HEADS * dim, numbers)
        yield _linear(f"{layer}.gate_up", 2 * FFN, WIDTH, numbers)
        yield _linear(f"{layer}.down", WIDTH, FFN, numbers)
        yield from _vectors([f"{layer}.{norm}" for norm in norms], WIDTH, numbers, 1.0)
        yield from _vectors([f"{layer}.q_norm", f"{layer}.k_norm"], dim, numbers, 0.5)
    yield from _vectors(["norm"], WIDTH, numbers, 1.0)
    for kind, dim in zip(("sliding", "full"), shape.head_dim_by_kind[::-1], strict=True):
        for angles in ("cos", "sin"):
            values = numbers(POSITIONS, dim // 2, reach=64)
            yield Vector(name=f"rope.{kind}.{angles}", values=values)


def _embedding_gemma2(numbers: Numbers, shape: EngineConfig) -> Iterator[Weight]:
    yield from _gemma(numbers, shape)
    for i in range(LAYERS):
        layer = f"layers.{i}.per_layer"
        yield _linear(f"{layer}.project", shape.per_layer, WIDTH, numbers)
        yield _linear(f"{layer}.gate", shape.per_layer, WIDTH, numbers)
        yield _linear(f"{layer}.out", WIDTH, shape.per_layer, numbers)
        yield from _vectors([f"{layer}.norm"], shape.per_layer, numbers, 1.0)
        yield from _vectors([f"{layer}.gate_factors", f"{layer}.out_norm"], WIDTH, numbers, 1.0)
    yield from _vectors(["per_layer.project_factors"], WIDTH, numbers, 1.0)
    yield from _vectors(["layer_scalars"], LAYERS, numbers, 1.0)


def _bert(numbers: Numbers, _shape: EngineConfig) -> Iterator[Weight]:
    yield Vector(name="positions", values=numbers(POSITIONS, WIDTH))
    yield from _norm("embedding_norm", numbers)
    for i in range(LAYERS):
        layer = f"layers.{i}"
        yield _linear(f"{layer}.qkv", 3 * HEADS * HEAD_DIM, WIDTH, numbers, bias=True)
        yield _linear(f"{layer}.o", WIDTH, HEADS * HEAD_DIM, numbers, bias=True)
        yield _linear(f"{layer}.up", FFN, WIDTH, numbers, bias=True)
        yield _linear(f"{layer}.down", WIDTH, FFN, numbers, bias=True)
        yield from _norm(f"{layer}.attention_norm", numbers)
        yield from _norm(f"{layer}.mlp_norm", numbers)


def _norm(name: str, numbers: Numbers) -> Iterator[Weight]:
    yield Vector(name=f"{name}.weight", values=numbers(WIDTH, around=1.0))
    yield Vector(name=f"{name}.bias", values=numbers(WIDTH))


def _dense(numbers: Numbers) -> Iterator[Weight]:
    for i, (k, n) in enumerate(zip((WIDTH, *DENSE), DENSE, strict=False)):
        yield _linear(f"dense.{i}", n, k, numbers, bias=i == 0)


def _table(numbers: Numbers) -> Table:
    return Table(name="embedding", table=numbers(VOCABULARY, WIDTH, reach=64))


WEIGHTS = {"gemma3": _gemma, "bert": _bert, "embedding_gemma2": _embedding_gemma2}
