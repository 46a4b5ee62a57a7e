"""The configuration of the native engine, as a model file stores it.

The fields are those of `native_config` in embedder/native/engine.h, with names for its enums.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

FAMILIES = ("gemma3", "bert", "embedding_gemma2")
PRECISIONS = ("int8", "fp16", "fp32")
ACTIVATIONS = ("identity", "tanh", "gelu", "gelu_tanh", "relu")
POOLINGS = ("mean", "cls")
MAX_DENSE = 4
MAX_LAYERS = 64
MAX_HEAD_DIM = 512
MAX_GROUP = 48  # query heads that read one key/value head
# Far above any model. Within these bounds no product of two sizes overflows int64.
MAX_WIDTH = 1 << 14
MAX_FFN = 1 << 16
MAX_HEADS = 256
MAX_POSITIONS = 1 << 20
MAX_VOCABULARY = 1 << 24
MULTIPLES: Mapping[str, int] = {
    "width": 16, "dense_width": 16, "head_dim": 16, "full_head_dim": 16, "per_layer": 16,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The sizes of a model."""

    family: str
    precision: str
    layers: int
    width: int  # of the residual stream
    ffn: int  # width of the feed-forward layer
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int  # the longest text, in tokens
    window: int  # sliding layers: query i reads keys j with |i - j| < window
    activation: str  # of the feed-forward layer
    pooling: str
    dense_width: tuple[int, ...]  # outputs of each projection after the pooling
    dense_activation: tuple[str, ...]
    sliding: tuple[bool, ...]  # one per layer
    norm_epsilon: float
    # Later than the others, so files that were written before do not have them.
    full_kv_heads: int = 0  # of layers without a window, if those have another number
    full_head_dim: int = 0  # the same
    per_layer: int = 0  # width of the embeddings per layer; 0 for none

    @property
    def kv_heads_by_kind(self) -> tuple[int, int]:
        """Key/value heads of full and of sliding layers."""
        return (self.full_kv_heads or self.kv_heads, self.kv_heads)

    @property
    def head_dim_by_kind(self) -> tuple[int, int]:
        """The same for the values of a head."""
        return (self.full_head_dim or self.head_dim, self.head_dim)

    @property
    def dimensions(self) -> int:
        """Values in one vector."""
        return self.dense_width[-1] if self.dense_width else self.width

    def to_json(self) -> str:
        """As JSON, as the model file holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EngineConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: the fields are others, or one has the wrong type or is out of range.
        """
        values = json.loads(text)
        types = {field.name: field.type for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not isinstance(values, dict) or not needed <= values.keys() <= types.keys():
            raise ValueError("the configuration has other fields than this version's")
        config = cls(**{name: _typed(name, value, types[name]) for name, value in values.items()})
        if problem := next(config.problems(), None):
            raise ValueError(problem)
        return config

    def problems(self) -> Iterator[str]:
        """Every reason why the engine cannot run the model, one line each."""
        yield from self._unknown_words()
        yield from self._bad_sizes()
        for kv_heads in filter(None, set(self.kv_heads_by_kind)):
            if self.heads % kv_heads:
                yield f"{kv_heads} key/value heads do not divide {self.heads} heads"
            if self.heads // kv_heads > MAX_GROUP:
                yield f"{self.heads} heads share {kv_heads} key/value heads"
        if len(self.sliding) != self.layers:
            yield f"{len(self.sliding)} kinds of layers for {self.layers} layers"
        if len(self.dense_width) != len(self.dense_activation):
            yield "the Dense layers do not have one activation each"
        if len(self.dense_width) > MAX_DENSE:
            yield f"it has {len(self.dense_width)} Dense layers, at most {MAX_DENSE} are supported"
        if any(self.sliding) and not self.window:
            yield "it has sliding layers and no window"
        if not 0 <= self.norm_epsilon < 1:
            yield f"norm_epsilon is {self.norm_epsilon}"

    def _unknown_words(self) -> Iterator[str]:
        known = {
            "family": FAMILIES,
            "precision": PRECISIONS,
            "activation": ACTIVATIONS,
            "pooling": POOLINGS,
        }
        words = [(name, getattr(self, name), allowed) for name, allowed in known.items()]
        words += [("dense_activation", word, ACTIVATIONS) for word in self.dense_activation]
        for name, word, allowed in words:
            if word not in allowed:
                yield f"{name} {word!r} is not one of {', '.join(allowed)}"

    def _bad_sizes(self) -> Iterator[str]:
        highest = {
            "layers": MAX_LAYERS, "width": MAX_WIDTH, "ffn": MAX_FFN, "heads": MAX_HEADS,
            "kv_heads": MAX_HEADS, "head_dim": MAX_HEAD_DIM, "vocabulary": MAX_VOCABULARY,
            "positions": MAX_POSITIONS,
        }  # fmt: skip
        sizes = [(name, getattr(self, name), most) for name, most in highest.items()]
        sizes += [("dense_width", width, MAX_FFN) for width in self.dense_width]
        optional = {
            "full_kv_heads": MAX_HEADS, "full_head_dim": MAX_HEAD_DIM, "per_layer": MAX_WIDTH,
        }  # fmt: skip
        sizes += [
            (name, size, most) for name, most in optional.items() if (size := getattr(self, name))
        ]
        for name, size, most in sizes:
            if not 1 <= size <= most:
                yield f"{name} is {size}, between 1 and {most} are supported"
            elif size % (multiple := MULTIPLES.get(name, 1)):
                yield f"{name} is {size}, which is not a multiple of {multiple}"
        if not 0 <= self.window <= MAX_POSITIONS:
            yield f"window is {self.window}"


_ITEMS: Mapping[str, type] = {
    "dense_width": int, "dense_activation": str, "sliding": bool,
}  # fmt: skip


def _typed(name: str, value: object, annotation: Any) -> Any:
    """`value` as the type of its field; JSON has no tuples. Raises ValueError."""
    if item := _ITEMS.get(name):
        if isinstance(value, list) and all(type(element) is item for element in value):
            return tuple(value)
    elif type(value) is annotation:
        return value
    raise ValueError(f"{name} is {str(value)[:40]!r}, of the wrong type")
