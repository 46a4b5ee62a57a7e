"""The packed forward pass of EmbeddingGemma: Gemma 3 text, bidirectional, one key/value head.

With one key/value head the query heads are only more rows: queries stay (S x heads, head_dim), and
attention is two matrix products and a softmax without a transpose or a copy of the head.
"""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embedder.errors import ModelConfigError
from embedder.prepare.parts import Head, Parts, constant, filled, gather, key_bias, window_bias

ARCHITECTURES = ("gemma3_text",)
rotary = torch.onnx.ops.rotary_embedding

Angles: TypeAlias = tuple[Tensor, Tensor, Tensor]  # cosines and sines by position, and the tokens' positions


class Blocks(NamedTuple):
    """What one kind of layer reads; see embedder/packing.py."""

    queries: Tensor  # (B, S)
    places: Tensor  # (T,)
    keys: Tensor  # (B, K)
    bias: Tensor  # (B, S or 1, K)


class Norm(nn.Module):
    """Gemma's RMSNorm, its 1 + weight (and any factor that follows) a constant."""

    def __init__(self, norm: nn.Module, factor: float = 1.0) -> None:
        super().__init__()
        self.weight, self.eps = constant((1 + norm.weight.float()) * factor), norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight=self.weight, eps=self.eps)


class Layer(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.heads, self.head_dim = attention.config.num_attention_heads, attention.head_dim
        self.sliding = bool(attention.is_sliding)
        self.q, self.k, self.v = (
            constant(projection.weight.T) for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        self.out = constant(attention.o_proj.weight.T)
        self.gate, self.up = constant(mlp.gate_proj.weight.T), constant(mlp.up_proj.weight.T)
        self.down = constant(mlp.down_proj.weight.T)
        self.q_norm, self.k_norm = Norm(attention.q_norm, attention.scaling), Norm(attention.k_norm)
        self.before_attention, self.after_attention = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
        self.before_mlp, self.after_mlp = (
            Norm(layer.pre_feedforward_layernorm),
            Norm(layer.post_feedforward_layernorm),
        )

    def forward(self, x: Tensor, angles: Angles, blocks: Blocks) -> Tensor:
        """x (T, width) to (T, width)."""
        tokens, width = x.shape[0], self.heads * self.head_dim
        y = self.before_attention(x)
        q = self.q_norm((y @ self.q).reshape(tokens, self.heads, self.head_dim))
        q = rotary(q.reshape(1, tokens, width), *angles, num_heads=self.heads).reshape(tokens, width)
        k = rotary(self.k_norm(y @ self.k)[None], *angles, num_heads=1).reshape(tokens, self.head_dim)
        v = y @ self.v
        mixed = self._attend(gather(q, blocks.queries), gather(k, blocks.keys), gather(v, blocks.keys), blocks.bias)
        mixed = gather(mixed.reshape(-1, width), blocks.places)
        x = x + self.after_attention(mixed @ self.out)
        y = self.before_mlp(x)
        inner = F.gelu(y @ self.gate, approximate="tanh") * (y @ self.up)
        hidden: Tensor = x + self.after_mlp(inner @ self.down)
        return hidden

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """q (B, S, heads x head_dim), k and v (B, K, head_dim), bias (B, S or 1, K) to (B, S x heads, head_dim).

        All heads at once: one after the other takes 70 MB less and 8 % less time at 2,048 tokens, but with S rows
        instead of 3 S ONNX Runtime deals columns to its threads, adds floats up in an order that depends on S, and
        int8 makes it visible (cosine 0.9998 between a text alone and in company).
        """
        scores = q.reshape(q.shape[0], q.shape[1] * self.heads, self.head_dim) @ k.transpose(1, 2)
        return F.softmax(scores + bias, -1) @ v


class PackedGemma(nn.Module):
    """Inputs are a Layout's arrays; see embedder/packing.py. Raises UnsupportedModelError."""

    def __init__(self, parts: Parts, max_tokens: int) -> None:
        super().__init__()
        transformer = parts.transformer
        check_config(parts)
        self.window = int(parts.config.sliding_window)
        self.words = constant(transformer.embed_tokens.weight * transformer.embed_tokens.embed_scale)
        for sliding, kind in ((True, "sliding_attention"), (False, "full_attention")):
            cos, sin = transformer.rotary_emb(torch.zeros(1), torch.arange(max_tokens)[None], kind)
            half = cos.shape[-1] // 2
            self.register_buffer(f"cos_{sliding}", cos[0, :, :half].contiguous())
            self.register_buffer(f"sin_{sliding}", sin[0, :, :half].contiguous())
        self.layers = nn.ModuleList(Layer(layer) for layer in transformer.layers)
        self.norm = Norm(transformer.norm)
        self.head = Head(parts)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segment_ids: Tensor,
        segments: Tensor,
        wide_queries: Tensor,
        wide_places: Tensor,
        wide_keys: Tensor,
        near_queries: Tensor,
        near_places: Tensor,
        near_keys: Tensor,
    ) -> Tensor:
        heads = self.layers[0].heads
        near_bias = window_bias(position_ids, near_queries, near_keys, self.window).repeat_interleave(heads, dim=1)
        blocks = {
            True: Blocks(filled(near_queries), near_places, filled(near_keys), near_bias),
            False: Blocks(filled(wide_queries), wide_places, filled(wide_keys), key_bias(wide_keys)),
        }
        angles = {
            sliding: (self.get_buffer(f"cos_{sliding}"), self.get_buffer(f"sin_{sliding}"), position_ids[None])
            for sliding in (True, False)
        }
        x = gather(self.words, input_ids)
        for layer in self.layers:
            x = layer(x, angles[layer.sliding], blocks[layer.sliding])
        vectors: Tensor = self.head(self.norm(x), position_ids, segment_ids, segments)
        return vectors


def check_config(parts: Parts) -> None:
    """Refuse what this forward pass would silently compute differently."""
    config = parts.config
    expected = {
        "use_bidirectional_attention": True,  # transformers < 4.57 does not know it and runs causal
        "num_key_value_heads": 1,
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
    }
    for name, value in expected.items():
        if (actual := getattr(config, name, None)) != value:
            raise parts.unsupported(f"{name} is {actual!r}, the packed forward pass needs {value!r}")


def check_window(raw_window: int, loaded_window: int) -> None:
    """`sliding_window` in config.json is the whole window (512), in memory the reach of one side + 1 (257).

    Some versions of transformers save the latter, and every save and load then halves the window.
    A whole window is even; an odd one is the mark of such a save. Raises ModelConfigError.
    """
    if raw_window % 2 or loaded_window != raw_window // 2 + 1:
        raise ModelConfigError(
            f"config.json has sliding_window {raw_window}, loaded as {loaded_window}: it was halved by a save; "
            "take config.json from the original model"
        )
