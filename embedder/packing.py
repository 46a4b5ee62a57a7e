"""Token sequences to packs, and a pack to the blocks the graph reads. Pure.

A pack is texts laid end to end, without padding between them, and computed in one forward pass.
Attention would make a pack of T tokens cost T x T, so the tokens are cut into B blocks of S and each
block reads only the K tokens its texts (and the sliding window) can reach: B x S x K instead of T x T.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedder.tokens import TokenIds

Indices: TypeAlias = NDArray[np.int64]
PADDING = -1  # segment of the few tokens that round T up to B x S

# One token costs about as much in the matrix products as 1,500 keys do in attention: measured on
# EmbeddingGemma int8 (203 MFLOP a token); the ratio is close for MiniLM (21 MFLOP a token).
KEYS_PER_TOKEN = 1500
MIN_BLOCK = 128  # fewer queries a block are slower and hold more copies of the keys
MAX_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """A pack as the graph's inputs, T = B x S."""

    input_ids: Indices  # (B, S)
    position_ids: Indices  # (B, S), from 0 in each text
    segment_ids: Indices  # (B, S), the text's place in the pack, or PADDING
    wide_keys: Indices  # (B, Kw), places in the flat pack that a block reads in full attention
    near_keys: Indices  # (B, Kn), the same inside the sliding window
    segments: Indices  # (N,), 0 .. N - 1

    def inputs(self) -> dict[str, Indices]:
        return {name: getattr(self, name) for name in self.__slots__}


def pack(lengths: Sequence[int], *, budget: int, max_texts: int | None = None) -> list[list[int]]:
    """Group texts, longest first, into packs of at most `budget` tokens and `max_texts` texts.

    Returns the texts' indices by pack. A text longer than the budget gets a pack of its own. Sorting
    puts texts of one length side by side, where blocks cut them least.
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


def layout(token_ids: Sequence[TokenIds], *, window: int | None = None) -> Layout:
    """Lay one pack out in the number of blocks that costs least. `window`: |i - j| < window."""
    lengths = np.array([len(ids) for ids in token_ids])
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    width, wide, near = min(
        _block_choices(ends - lengths, ends, window),
        key=lambda choice: choice[0] * len(choice[1]) * (KEYS_PER_TOKEN + choice[1].shape[1] + choice[2].shape[1]),
    )
    shape = (len(wide), width)
    return Layout(
        input_ids=_padded(np.concatenate(token_ids), shape, 0),
        position_ids=_padded(np.arange(total) - np.repeat(ends - lengths, lengths), shape, 0),
        segment_ids=_padded(np.repeat(np.arange(len(lengths)), lengths), shape, PADDING),
        wide_keys=wide,
        near_keys=near,
        segments=np.arange(len(lengths)),
    )


def _block_choices(starts: Indices, ends: Indices, window: int | None) -> Iterator[tuple[int, Indices, Indices]]:
    total = int(ends[-1])
    for blocks in range(1, min(MAX_BLOCKS, max(1, total // MIN_BLOCK)) + 1):
        width = -(-total // blocks)
        if blocks > 1 and width * (blocks - 1) >= total:
            continue  # the last block would hold nothing but padding
        first = np.arange(blocks) * width
        last = np.minimum(first + width, total) - 1
        low = starts[np.searchsorted(ends, first, side="right")]
        high = ends[np.searchsorted(ends, last, side="right")]
        wide = _key_ranges(low, high, total)
        near = wide
        if window is not None:
            near = _key_ranges(np.maximum(low, first - window + 1), np.minimum(high, last + window), total)
        yield width, wide, near


def _key_ranges(low: Indices, high: Indices, total: int) -> Indices:
    """One row of consecutive places a block, all rows as long as the longest range needs."""
    count = int((high - low).max())
    return np.minimum(low, total - count)[:, None] + np.arange(count)


def _padded(values: Indices, shape: tuple[int, int], filler: int) -> Indices:
    flat = np.full(shape[0] * shape[1], filler, np.int64)
    flat[: len(values)] = values
    return flat.reshape(shape)
