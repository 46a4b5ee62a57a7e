"""The packed forward pass of BERT and its relatives with absolute positions."""

from torch import Tensor, nn
from torch.nn import functional as F

from embedder.prepare.parts import Head, Parts, constant, filled, gather, key_bias

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "camembert")


class Layer(nn.Module):
    """Post-norm transformer layer; the scores' 1/sqrt(head) is in q's weights."""

    def __init__(self, layer: nn.Module, heads: int) -> None:
        super().__init__()
        attention, output = layer.attention.self, layer.attention.output
        self.heads = heads
        self.width = attention.query.weight.shape[0]
        scaling = (self.width // heads) ** -0.5
        self.q, self.q_bias = constant(attention.query.weight.T * scaling), constant(attention.query.bias * scaling)
        self.k, self.k_bias = constant(attention.key.weight.T), constant(attention.key.bias)
        self.v, self.v_bias = constant(attention.value.weight.T), constant(attention.value.bias)
        self.out, self.out_bias = constant(output.dense.weight.T), constant(output.dense.bias)
        self.up = constant(layer.intermediate.dense.weight.T)
        self.up_bias = constant(layer.intermediate.dense.bias)
        self.down, self.down_bias = constant(layer.output.dense.weight.T), constant(layer.output.dense.bias)
        self.activation = layer.intermediate.intermediate_act_fn
        self.attention_norm, self.output_norm = output.LayerNorm, layer.output.LayerNorm

    def forward(self, x: Tensor, queries: Tensor, places: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        """x (T, width); queries (B, S); places (T,); keys (B, K); bias (B, 1, 1, K). Returns (T, width)."""
        q = self._split(gather(x @ self.q + self.q_bias, queries))
        k = self._split(gather(x @ self.k + self.k_bias, keys))
        v = self._split(gather(x @ self.v + self.v_bias, keys))
        mixed = F.softmax(q @ k.transpose(2, 3) + bias, -1) @ v
        mixed = gather(mixed.transpose(1, 2).reshape(-1, self.width), places)
        x = self.attention_norm(mixed @ self.out + self.out_bias + x)
        inner = self.activation(x @ self.up + self.up_bias)
        hidden: Tensor = self.output_norm(inner @ self.down + self.down_bias + x)
        return hidden

    def _split(self, rows: Tensor) -> Tensor:
        """(B, S, width) to (B, heads, S, width / heads)."""
        return rows.reshape(*rows.shape[:2], self.heads, self.width // self.heads).transpose(1, 2)


class PackedBert(nn.Module):
    """Inputs are a Layout's arrays; see embedder/packing.py. Raises UnsupportedModelError."""

    def __init__(self, parts: Parts, max_tokens: int) -> None:
        super().__init__()
        config, embeddings = parts.config, parts.transformer.embeddings
        if config.is_decoder or getattr(config, "position_embedding_type", "absolute") != "absolute":
            raise parts.unsupported("it is a decoder or has relative positions")
        # RoBERTa counts positions from padding_idx + 1 (transformers, create_position_ids_from_input_ids).
        first = 0 if config.model_type == "bert" else embeddings.padding_idx + 1
        positions = embeddings.position_embeddings.weight[first : first + max_tokens]
        self.words = constant(embeddings.word_embeddings.weight)
        self.positions = constant(positions + embeddings.token_type_embeddings.weight[0])
        self.norm = embeddings.LayerNorm
        self.layers = nn.ModuleList(
            Layer(layer, config.num_attention_heads) for layer in parts.transformer.encoder.layer
        )
        self.head = Head(parts)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segment_ids: Tensor,
        wide_queries: Tensor,
        wide_places: Tensor,
        wide_keys: Tensor,
        segments: Tensor,
    ) -> Tensor:
        queries, keys, bias = filled(wide_queries), filled(wide_keys), key_bias(wide_keys)[:, None]
        x = self.norm(gather(self.words, input_ids) + gather(self.positions, position_ids))
        for layer in self.layers:
            x = layer(x, queries, wide_places, keys, bias)
        vectors: Tensor = self.head(x, position_ids, segment_ids, segments)
        return vectors
