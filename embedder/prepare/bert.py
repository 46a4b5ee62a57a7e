"""The packed forward pass of BERT and its relatives with absolute positions."""

from torch import Tensor, nn
from torch.nn import functional as F

from embedder.prepare.parts import Head, Parts, block_bias, constant, gather

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "camembert")


class Layer(nn.Module):
    """Post-norm transformer layer; q|k|v is one matrix, 1/sqrt(head) of the scores is in q's weights."""

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

    def forward(self, x: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        """x (T, width); keys (B, K); bias (B, 1, S, K). Returns (T, width)."""
        blocks, _, queries, reach = bias.shape
        head = self.width // self.heads
        q = (x @ self.q + self.q_bias).reshape(blocks, queries, self.heads, head).transpose(1, 2)
        k = gather(x @ self.k + self.k_bias, keys).reshape(blocks, reach, self.heads, head).permute(0, 2, 3, 1)
        v = gather(x @ self.v + self.v_bias, keys).reshape(blocks, reach, self.heads, head).transpose(1, 2)
        mixed = F.softmax(q @ k + bias, -1) @ v
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(mixed @ self.out + self.out_bias + x)
        inner = self.activation(x @ self.up + self.up_bias)
        hidden: Tensor = self.output_norm(inner @ self.down + self.down_bias + x)
        return hidden


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
        self.words = embeddings.word_embeddings
        self.positions = constant(positions + embeddings.token_type_embeddings.weight[0])
        self.norm = embeddings.LayerNorm
        self.layers = nn.ModuleList(
            Layer(layer, config.num_attention_heads) for layer in parts.transformer.encoder.layer
        )
        self.head = Head(parts)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, wide_keys: Tensor, segments: Tensor
    ) -> Tensor:
        bias = block_bias(position_ids, segment_ids, wide_keys)[:, None]
        positions = position_ids.reshape(-1)
        x = self.norm(self.words(input_ids.reshape(-1)) + gather(self.positions, positions))
        for layer in self.layers:
            x = layer(x, wide_keys, bias)
        vectors: Tensor = self.head(x, positions, segment_ids.reshape(-1), segments)
        return vectors
