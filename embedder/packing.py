"""Token sequences to packs, and a pack to the graph's inputs. Pure.

A pack is texts laid end to end and computed in one forward pass without padding: every matrix product
and every norm works on T rows. Attention alone works on blocks: S query tokens of one text, and the K
key tokens they may read, B x S x K instead of T x T.

Where a key stands in its row of K decides the order in which floats are added, and so the last bit of
the sum; rounded to int8, last bits become visible (cosine 0.996 between a text alone and in company
on the starter model). So rows begin where the text begins or a multiple of STRIDE after it, and K is
a multiple of LANES: what the layers make of a text is then the same in every company, to the bit.
Pooling adds over the whole pack, which moves a float32 vector by no more than its last bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedder.errors import VectorCountError
from embedder.postprocess import Vectors
from embedder.tokens import TokenIds

Indices: TypeAlias = NDArray[np.int64]
NOTHING = -1  # a place in queries or keys that holds no token

LANES = 64  # ONNX Runtime's softmax adds 4 vectors of 16 floats at a time (MLAS, ComputeSumExpF32)
STRIDE = 128  # its fp32 matrix product adds up 128 rows at a time (MLAS, SGEMM_STRIDEK)
BLOCK_SIZES = (64, 128, 256)
KEY_COST = 4  # copying a key into its block's row costs about as much as four queries reading it


@dataclass(frozen=True, slots=True)
class Blocks:
    """What one kind of attention reads of a pack: B blocks of S queries and K keys."""

    queries: Indices  # (B, S), places in the pack, or NOTHING
    places: Indices  # (T,), where each token stands in the flat queries
    keys: Indices  # (B, K), places a block reads, or NOTHING

    @property
    def cost(self) -> int:
        return int(len(self.queries) * (self.queries.shape[1] + KEY_COST) * self.keys.shape[1])


@dataclass(frozen=True, slots=True)
class Layout:
    """A pack of N texts and T tokens as the graph's inputs."""

    input_ids: Indices  # (T,)
    position_ids: Indices  # (T,), from 0 in each text
    segment_ids: Indices  # (T,), the text's place in the pack
    segments: Indices  # (N,), 0 .. N - 1
    wide: Blocks  # full attention
    near: Blocks  # inside the sliding window

    def inputs(self) -> dict[str, Indices]:
        """Arrays by input name: `wide_keys` is `wide.keys`."""
        arrays: dict[str, Indices] = {name: getattr(self, name) for name in self.__slots__[:4]}
        for kind, blocks in (("wide", self.wide), ("near", self.near)):
            arrays |= {f"{kind}_{name}": getattr(blocks, name) for name in blocks.__slots__}
        return arrays


def pack(lengths: Sequence[int], *, budget: int, max_texts: int | None = None) -> list[list[int]]:
    """Group texts, longest first, into packs of at most `budget` tokens and `max_texts` texts.

    Returns the texts' indices by pack. A text longer than the budget gets a pack of its own. Sorting
    puts texts of one length together, whose attention blocks are equally wide.
    """
    packs: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        full = not packs or (max_texts is not None and len(packs[-1]) >= max_texts)
        if full or lengths[index] > room:
            packs.append([])
            room = budget
        packs[-1].append(index)
        room -= lengths[index]
    return packs


def embed_packs(
    forward: Callable[[Sequence[TokenIds]], Vectors], token_ids: Sequence[TokenIds], *, budget: int
) -> Vectors:
    """One `forward` a pack, its rows put back in the order given: (n_texts, dimensions). Raises VectorCountError."""
    rows: list[Vectors] = [np.empty(0, np.float32)] * len(token_ids)
    for indices in pack([len(ids) for ids in token_ids], budget=budget):
        vectors = forward([token_ids[index] for index in indices])
        if len(vectors) != len(indices):
            raise VectorCountError(f"{len(vectors)} vectors for {len(indices)} texts")
        for index, vector in zip(indices, vectors, strict=True):
            rows[index] = vector
    return np.stack(rows)


def layout(token_ids: Sequence[TokenIds], *, window: int | None = None) -> Layout:
    """Lay one pack out in the block sizes that cost least. `window`: |i - j| < window on sliding layers."""
    lengths = np.array([len(ids) for ids in token_ids])
    longest = int(lengths.max())
    sizes = [size for size in BLOCK_SIZES if size < longest]
    # A long text's full attention is cheapest in one block: blocks would each copy all of its keys.
    wide = min((blocks(lengths, size) for size in (*sizes, longest)), key=lambda choice: choice.cost)
    near = wide
    if window is not None:
        near_sizes = (*sizes, longest) if longest <= BLOCK_SIZES[-1] else sizes
        near = min((blocks(lengths, size, window) for size in near_sizes), key=lambda choice: choice.cost)
    starts = np.cumsum(lengths) - lengths
    return Layout(
        input_ids=np.concatenate(token_ids),
        position_ids=np.arange(lengths.sum()) - np.repeat(starts, lengths),
        segment_ids=np.repeat(np.arange(len(lengths)), lengths),
        segments=np.arange(len(lengths)),
        wide=wide,
        near=near,
    )


def blocks(lengths: Indices, size: int, window: int | None = None) -> Blocks:
    """Every text cut into blocks of `size` queries, which read all of its keys or those in the window."""
    starts = np.cumsum(lengths) - lengths
    counts = -(-lengths // size)
    text = np.repeat(np.arange(len(lengths)), counts)
    first = (np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)) * size
    start, length = starts[text], lengths[text]
    low, high = np.zeros_like(first), length
    if window is not None:
        low = np.maximum(first - window + 1, 0) // STRIDE * STRIDE
        high = np.minimum(first + size - 1 + window, length)
    queries = _ranges(start, first, np.minimum(first + size, length), size)
    return Blocks(
        queries=queries,
        places=np.flatnonzero(queries != NOTHING),  # blocks follow the pack: the n-th place is the n-th token's
        keys=_ranges(start, low, high, _rounded((high - low).max())),
    )


def _ranges(start: Indices, low: Indices, high: Indices, width: int) -> Indices:
    """Row i holds start + low .. start + high - 1 of a text, filled up to `width` with NOTHING."""
    offsets = low[:, None] + np.arange(width)
    return np.where(offsets < high[:, None], start[:, None] + offsets, NOTHING)


def _rounded(count: int) -> int:
    return int(-(-count // LANES) * LANES)
