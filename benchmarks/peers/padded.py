"""The original model over a padded batch as one torch module, for converters."""

from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from lab.models import FULL_SIZE


class Padded(nn.Module):
    """Transformer, mean pooling, Dense layers and normalisation.

    Masks are computed here, so that converters see plain tensors.

    Args:
        model: the original.
        as_mask: turns booleans, true where a key is attended to, into the mask of the attention.
    """

    def __init__(
        self, model: SentenceTransformer, as_mask: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.transformer: Any = model[0].auto_model
        self.dense = nn.ModuleList(module.linear for module in model if hasattr(module, "linear"))
        self.window = self.transformer.config.sliding_window
        self.as_mask = as_mask

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        position = torch.arange(input_ids.shape[1])
        distance = (position[:, None] - position[None, :]).abs()
        # Padding attends to itself: a row that attends to nothing would be NaN.
        full = attention_mask[:, None, None, :].bool() | (distance == 0)
        sliding = full & (distance < self.window)
        masks = {"full_attention": self.as_mask(full), "sliding_attention": self.as_mask(sliding)}
        hidden = self.transformer(input_ids=input_ids, attention_mask=masks).last_hidden_state
        weight = attention_mask[..., None].to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        for linear in self.dense:
            pooled = linear(pooled)
        return nn.functional.normalize(pooled, dim=-1)


def original(
    attention: str, as_mask: Callable[[torch.Tensor], torch.Tensor] = lambda read: read
) -> Padded:
    """The full-size random model in fp32, with the named attention function of transformers."""
    model = SentenceTransformer(
        str(FULL_SIZE), device="cpu", model_kwargs={"attn_implementation": attention}
    )
    padded: Padded = Padded(model, as_mask).eval()
    return padded


def example(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask for tracing: (rows, width) each."""
    return torch.randint(5, 1000, (rows, width)), torch.ones(rows, width, dtype=torch.int64)
