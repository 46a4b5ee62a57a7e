"""Ours and others with the same model, each as its best user runs it: one module each.

A module has `prepare()`, which makes what it loads unless it is there already; `load(...)`, which
gives the function from token ids to vectors; and PACKAGE, whose version is reported. None imports
embedder when it is imported: v0.1 brings a package of that name.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Matrix = NDArray[np.float32]
Embed = Callable[[Sequence[Ids]], Matrix]

# Tokens of a padded batch, padding included. By 32 texts of any length instead, ONNX Runtime makes a
# third as many tokens a second of mixed ones.
BATCH_TOKENS = 512


def batches(token_ids: Sequence[Ids]) -> list[list[int]]:
    """Numbers of texts of similar length, at most BATCH_TOKENS in a padded batch."""
    found: list[list[int]] = []
    batch: list[int] = []
    for number in sorted(range(len(token_ids)), key=lambda number: len(token_ids[number])):
        if batch and (len(batch) + 1) * len(token_ids[number]) > BATCH_TOKENS:
            found.append(batch)
            batch = []
        batch.append(number)
    return [*found, batch]


def padded(texts: Sequence[Ids]) -> tuple[Ids, Ids]:
    """Token ids and mask, as many columns as the longest text has tokens."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return ids, mask


def in_padded_batches(run: Callable[[Ids, Ids], Matrix]) -> Embed:
    """What embeds any number of texts through `run`, which takes one padded batch."""

    def embed(token_ids: Sequence[Ids]) -> Matrix:
        order = batches(token_ids)
        vectors = [run(*padded([token_ids[number] for number in batch])) for batch in order]
        return np.concatenate(vectors)[np.argsort(np.concatenate(order))]

    return embed
