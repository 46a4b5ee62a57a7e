"""A sentence-transformers model to one packed ONNX graph in fp32."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from embedder.errors import UnsupportedModelError
from embedder.packing import Layout, blocks, layout
from embedder.prepare import bert, gemma, wrapped
from embedder.prepare.fuse import fuse
from embedder.prepare.parts import Parts, read_parts

OPSET = 23  # the first with RMSNormalization and RotaryEmbedding
PACKED: dict[str, Callable[[Parts, int], nn.Module]] = {
    **dict.fromkeys(bert.ARCHITECTURES, bert.PackedBert),
    **dict.fromkeys(gemma.ARCHITECTURES, gemma.PackedGemma),
}


def packed_module(model: SentenceTransformer, model_id: str, max_tokens: int) -> nn.Module:
    """The forward pass written for the architecture, or the original wrapped. Raises UnsupportedModelError."""
    parts = read_parts(model, model_id)
    build = PACKED.get(parts.config.model_type, wrapped.PackedOriginal)
    return build(parts, max_tokens).eval()


def export(module: nn.Module, path: Path, model_id: str) -> None:
    """Write `path` and its weights beside it. Raises UnsupportedModelError when torch cannot trace the model."""
    example = {name: torch.from_numpy(value) for name, value in _example_layout().inputs().items()}
    names = list(module.forward.__code__.co_varnames[1 : module.forward.__code__.co_argcount])
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(example[name] for name in names),
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=["vectors"],
                dynamic_shapes={name: _dynamic()[name] for name in names},
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises anything, from its own types to AssertionError
        raise UnsupportedModelError(model_id, f"torch.onnx.export failed ({type(error).__name__})") from error
    assert program is not None
    program.save(str(path), external_data=True)
    graph = onnx.load(str(path), load_external_data=False)
    check_inputs(graph, names, model_id)
    fuse(graph)
    onnx.save(graph, str(path))


def check_inputs(model: onnx.ModelProto, names: list[str], model_id: str) -> None:
    """An input the tracer dropped or fixed in size would only show as wrong vectors."""
    found = {value.name: [d.dim_param for d in value.type.tensor_type.shape.dim] for value in model.graph.input}
    if sorted(found) != sorted(names) or not all(all(dims) for dims in found.values()):
        raise UnsupportedModelError(model_id, f"the traced graph has inputs {found}")


def _example_layout() -> Layout:
    """Every size differs from every other and from 1, so that the tracer cannot take two for one."""
    texts = [np.arange(5, 5 + length) for length in (391, 230, 77)]
    lengths = np.array([len(text) for text in texts])
    return replace(layout(texts, window=9), wide=blocks(lengths, 256))


def _dynamic() -> dict[str, dict[int, Any]]:
    dim = torch.export.Dim
    tokens = {0: dim("tokens", min=1)}
    sizes = {"input_ids": tokens, "position_ids": tokens, "segment_ids": tokens, "segments": {0: dim("texts")}}
    for kind in ("wide", "near"):
        count = dim(f"{kind}_blocks", min=1)
        sizes[f"{kind}_queries"] = {0: count, 1: dim(f"{kind}_width", min=1)}
        sizes[f"{kind}_places"] = tokens
        sizes[f"{kind}_keys"] = {0: count, 1: dim(f"{kind}_reach")}
    return sizes
