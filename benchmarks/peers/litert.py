"""LiteRT: XNNPACK with int8 weights and activations, with one signature per length.

Its converter supports fixed shapes only, so a text is padded to the next of LENGTHS. Batches would
need more signatures and gain nothing, since 128 tokens already keep two cores busy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.peers import Embed, Ids, Matrix
from lab.models import HOME

PACKAGE = "ai-edge-litert"
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
DIRECTORY = HOME / "litert"
MODEL = DIRECTORY / "int8.tflite"


def prepare() -> None:
    if MODEL.exists():
        return
    from ai_edge_quantizer import quantizer, recipe

    DIRECTORY.mkdir(parents=True, exist_ok=True)
    exact = DIRECTORY / "fp32.tflite"
    unfinished = DIRECTORY / "unfinished.tflite"
    if not exact.exists():
        _convert(exact)
    quantising = quantizer.Quantizer(str(exact))
    quantising.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    quantising.quantize().export_model(str(unfinished), overwrite=True)
    unfinished.rename(MODEL)
    exact.unlink()


def _convert(target: Any) -> None:
    import litert_torch
    import torch
    from transformers import AttentionInterface

    from benchmarks.peers.padded import example, original

    AttentionInterface.register("one_kv_head", _one_kv_head)
    module = original("one_kv_head", lambda read: torch.where(read, 0.0, -1e4))
    converter: Any = litert_torch
    for length in LENGTHS:
        converter = converter.signature(
            f"tokens_{length}", module, tuple(part.int() for part in example(1, length))
        )
    converter.convert().export(str(target))


def _one_kv_head(
    _module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any
) -> tuple[Any, None]:
    """Attention with one key head: the rows of all query heads are in one product.

    The usual form repeats the key for every head. litert-torch 0.10 converts that product wrongly
    (cosine to the original 0.87).
    """
    batch, heads, n, width = query.shape
    scores = (query.reshape(batch, 1, heads * n, width) * scaling) @ key.transpose(2, 3)
    weights = (scores.reshape(batch, heads, n, n) + mask).softmax(-1)
    mixed = weights.reshape(batch, 1, heads * n, n) @ value
    return mixed.reshape(batch, heads, n, width).transpose(1, 2).contiguous(), None


def load(threads: int) -> Embed:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(MODEL), num_threads=threads)
    runners = {length: interpreter.get_signature_runner(f"tokens_{length}") for length in LENGTHS}

    def one(text: Ids) -> Matrix:
        length = next(length for length in LENGTHS if length >= len(text))
        ids, mask = np.zeros((2, 1, length), np.int32)
        ids[0, : len(text)] = text
        mask[0, : len(text)] = 1
        (vectors,) = runners[length](args_0=ids, args_1=mask).values()
        return np.array(vectors[0])

    def embed(token_ids: Sequence[Ids]) -> Matrix:
        return np.stack([one(text) for text in token_ids])

    return embed
