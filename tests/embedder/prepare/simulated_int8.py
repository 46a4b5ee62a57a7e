"""Simulates int8 in torch with fp32: without a rotation, or with that of the engine."""

import copy

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from embedder.prepare.rotation import block_size, hadamard


def simulated(model: SentenceTransformer, *, rotated: bool) -> SentenceTransformer:
    """A copy whose embedding table and products are rounded to int8, with one scale per row."""
    model = copy.deepcopy(model)
    config = model[0].auto_model.config
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and "pooler" not in name:
            is_out = name.endswith(("o_proj", "attention.output.dense"))
            size = block_size(head_dim if is_out else module.in_features) if rotated else 1
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], Int8Linear(module, size))
        elif name.endswith(("embed_tokens", "word_embeddings")):
            module.weight.data = rounded_rows(module.weight.data)
    return model


class Int8Linear(nn.Module):
    """Blocks of inputs and weights times an orthogonal Hadamard matrix, then rounded."""

    def __init__(self, linear: nn.Linear, size: int) -> None:
        super().__init__()
        eye = np.eye(size, dtype=np.float32)
        self.register_buffer(
            "rotation", torch.from_numpy(hadamard(eye, size) / np.sqrt(size)).float()
        )
        self.weight = nn.Parameter(rounded_rows(self._rotated(linear.weight.detach())))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rounded_rows(self._rotated(x)), self.weight, self.bias)

    def _rotated(self, x: Tensor) -> Tensor:
        return (x.unflatten(-1, (-1, len(self.rotation))) @ self.rotation).flatten(-2)


def rounded_rows(x: Tensor) -> Tensor:
    """Round each row to multiples of its largest |value| / 127."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return torch.round(x / scale) * scale
