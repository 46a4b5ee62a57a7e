"""What a sentence-transformers model is made of, and the part that all packed graphs share: the head."""

from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, Pooling
from torch import Tensor, nn
from torch.nn import functional as F

from embedder.errors import UnsupportedModelError

POOLINGS = ("mean", "cls")
MASKED = -1e9  # added to scores that must not count; finite, so a row of nothing but padding stays finite


@dataclass(frozen=True)
class Parts:
    """The transformer, the pooling mode over its last hidden state, and the Dense layers after it."""

    model_id: str
    transformer: nn.Module
    config: Any
    pooling: str
    dense: tuple[Dense, ...]

    def unsupported(self, reason: str) -> UnsupportedModelError:
        return UnsupportedModelError(self.model_id, reason)


def read_parts(model: SentenceTransformer, model_id: str) -> Parts:
    """Raises UnsupportedModelError for a module, or a setting of one, that the packed graph does not have."""
    first, pooling, *rest = list(model) + [None] * (2 - len(model))
    if not isinstance(first, Transformer) or not isinstance(pooling, Pooling):
        raise UnsupportedModelError(model_id, "its first modules are not Transformer and Pooling")
    if pooling.pooling_mode not in POOLINGS:
        raise UnsupportedModelError(model_id, f"pooling {pooling.pooling_mode!r} is not one of {POOLINGS}")
    if not pooling.include_prompt and any(model.prompts.values()):
        raise UnsupportedModelError(model_id, "its pooling leaves prompts out")
    for module in rest:
        if not isinstance(module, Dense | Normalize | Dropout):
            raise UnsupportedModelError(model_id, f"module {type(module).__name__} is not known")
        if isinstance(module, Dense) and getattr(module, "use_residual", False):
            raise UnsupportedModelError(model_id, "its Dense layer has a residual connection")
    dense = tuple(module for module in rest if isinstance(module, Dense))
    transformer = first.auto_model
    return Parts(model_id, transformer, transformer.config, str(pooling.pooling_mode), dense)


class Head(nn.Module):
    """Hidden states of a flat pack to one L2-normalised vector a text."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.pooling = parts.pooling
        self.dense = nn.ModuleList(Projection(dense) for dense in parts.dense)

    def forward(self, hidden: Tensor, position_ids: Tensor, segment_ids: Tensor, segments: Tensor) -> Tensor:
        """hidden (T, width); position_ids and segment_ids (T,); segments (N,). Returns (N, dimensions)."""
        member = segments[:, None] == segment_ids[None, :]
        if self.pooling == "cls":
            member = member & (position_ids == 0)[None, :]
        weights = member.to(hidden.dtype)
        vectors = (weights @ hidden) / weights.sum(1, keepdim=True)
        for layer in self.dense:
            vectors = layer(vectors)
        return F.normalize(vectors, dim=-1)


class Projection(nn.Module):
    """A Dense module of sentence-transformers, its matrix stored the way it is multiplied."""

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.matrix = constant(dense.linear.weight.T)
        self.bias = None if dense.linear.bias is None else constant(dense.linear.bias)
        self.activation = dense.activation_function

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.matrix
        activated: Tensor = self.activation(y if self.bias is None else y + self.bias)
        return activated


def gather(rows: Tensor, places: Tensor) -> Tensor:
    """rows (T, width) at places (B, K): (B, K, width). F.embedding exports as Gather, indexing as slow GatherND."""
    return F.embedding(places, rows)


def filled(places: Tensor) -> Tensor:
    """Places that hold nothing read the first token instead; a bias or `places` leaves what they read out."""
    return places.clamp(min=0)


def key_bias(keys: Tensor) -> Tensor:
    """keys (B, K): 0 where there is a key, MASKED where there is none. Returns (B, 1, K)."""
    return torch.where(keys >= 0, 0.0, MASKED)[:, None]


def window_bias(position_ids: Tensor, queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """The same, and MASKED where |i - j| >= window. position_ids (T,), queries (B, S). Returns (B, S, K)."""
    columns = position_ids[:, None]
    distance = gather(columns, filled(queries)) - gather(columns, filled(keys)).transpose(1, 2)
    allowed = (keys >= 0)[:, None] & (distance.abs() < window)
    return torch.where(allowed, 0.0, MASKED)


def constant(weight: Tensor) -> nn.Parameter:
    """A weight as the graph keeps it: its own copy, contiguous, not trained."""
    return nn.Parameter(weight.detach().clone().contiguous(), requires_grad=False)
