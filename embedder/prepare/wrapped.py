"""The path for every other architecture: the model's own forward pass, told what belongs together by masks."""

from torch import Tensor, nn

from embedder.prepare.parts import Head, Parts


class PackedOriginal(nn.Module):
    """Hugging Face's module over the flat pack with T x T masks. Slower than a forward pass of its own."""

    def __init__(self, parts: Parts, max_tokens: int) -> None:
        super().__init__()
        self.transformer, self.head = parts.transformer, Head(parts)
        self.window = getattr(parts.config, "sliding_window", None)
        self.sliding = "sliding_attention" in (getattr(parts.config, "layer_types", None) or ())
        offset = getattr(getattr(parts.transformer, "embeddings", None), "padding_idx", None)
        self.first = 0 if parts.config.model_type == "bert" or offset is None else offset + 1

    def forward(self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, segments: Tensor) -> Tensor:
        same = segment_ids[:, None] == segment_ids[None, :]
        mask: Tensor | dict[str, Tensor] = same[None, None]
        if self.sliding:
            near = (position_ids[:, None] - position_ids[None, :]).abs() < self.window
            mask = {"full_attention": same[None, None], "sliding_attention": (same & near)[None, None]}
        hidden = self.transformer(
            input_ids=input_ids[None], position_ids=position_ids[None] + self.first, attention_mask=mask
        ).last_hidden_state[0]
        vectors: Tensor = self.head(hidden, position_ids, segment_ids, segments)
        return vectors
