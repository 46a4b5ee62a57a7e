"""How others run the same model: sentence-transformers, and ONNX Runtime's stock dynamic int8."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentence_transformers import SentenceTransformer
from torch import nn

from embedder.tokens import TokenIds

Embed = Callable[[Sequence[TokenIds]], Any]
BATCH = 32  # sentence-transformers' own default, longest first


def _batches(token_ids: Sequence[TokenIds]) -> list[list[TokenIds]]:
    ordered = sorted(token_ids, key=len, reverse=True)
    return [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]


def _padded(batch: Sequence[TokenIds]) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, batch))
    ids, mask = np.zeros((len(batch), width), np.int64), np.zeros((len(batch), width), np.int64)
    for row, one in enumerate(batch):
        ids[row, : len(one)], mask[row, : len(one)] = one, 1
    return ids, mask


def sentence_transformers(directory: Path, *, dtype: torch.dtype, threads: int) -> Embed:
    """`SentenceTransformer.encode` without its tokeniser: sorted, padded batches of 32."""
    torch.set_num_threads(threads)
    model = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": dtype})

    def embed(token_ids: Sequence[TokenIds]) -> None:
        with torch.inference_mode():
            for batch in _batches(token_ids):
                ids, mask = map(torch.from_numpy, _padded(batch))
                model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"].float().numpy()

    return embed


class _Padded(nn.Module):
    """The model over a padded batch, its masks made here so that the exporter sees plain tensors."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.transformer: Any = model[0].auto_model
        self.dense = nn.ModuleList(module.linear for module in model if hasattr(module, "linear"))
        self.window = self.transformer.config.sliding_window

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        position = torch.arange(input_ids.shape[1])
        real = attention_mask[:, None, None, :].bool() & attention_mask[:, None, :, None].bool()
        near = (position[:, None] - position[None, :]).abs() < self.window
        masks = {"full_attention": real, "sliding_attention": real & near}
        hidden = self.transformer(input_ids=input_ids, attention_mask=masks).last_hidden_state
        weight = attention_mask[..., None].to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        for linear in self.dense:
            pooled = linear(pooled)
        return nn.functional.normalize(pooled, dim=-1)


def stock_int8(directory: Path, *, threads: int) -> Embed:
    """`onnxruntime.quantization.quantize_dynamic` as its documentation shows it, over padded batches."""
    target = directory / "stock-int8" / "model.onnx"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        plain = target.with_name("plain.onnx")
        _export(directory, plain)
        quantize_dynamic(plain, target, weight_type=QuantType.QInt8, use_external_data_format=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])

    def embed(token_ids: Sequence[TokenIds]) -> None:
        for batch in _batches(token_ids):
            ids, mask = _padded(batch)
            session.run(None, {"input_ids": ids, "attention_mask": mask})

    return embed


def _export(directory: Path, target: Path) -> None:
    model = SentenceTransformer(str(directory), device="cpu", model_kwargs={"attn_implementation": "sdpa"})
    batch, width = torch.export.Dim("batch"), torch.export.Dim("width")
    example = (torch.randint(5, 1000, (3, 20)), torch.ones(3, 20, dtype=torch.int64))
    with torch.no_grad():
        program = torch.onnx.export(
            _Padded(model).eval(),
            example,
            dynamo=True,
            opset_version=20,
            dynamic_shapes={"input_ids": {0: batch, 1: width}, "attention_mask": {0: batch, 1: width}},
        )
    assert program is not None
    program.save(str(target), external_data=True)
