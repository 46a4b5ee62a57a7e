"""The engines that are compared, with the same model and their best settings, one per module.

A module has `prepare()`, which makes the model file unless it exists; `load(...)`, which returns a
function from token ids to vectors; and PACKAGE, whose version is reported. None of them imports
embedder at import, since v0.1 has a package of that name.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Matrix = NDArray[np.float32]
Embed = Callable[[Sequence[Ids]], Matrix]

# Tokens of a padded batch, including padding. With batches of 32 texts of any length, ONNX Runtime
# has a third of the tokens per second on mixed lengths.
BATCH_TOKENS = 512


def batches(token_ids: Sequence[Ids]) -> list[list[int]]:
    """Indices of texts of similar length, in batches of at most BATCH_TOKENS with padding."""
    found: list[list[int]] = []
    batch: list[int] = []
    for number in sorted(range(len(token_ids)), key=lambda number: len(token_ids[number])):
        if batch and (len(batch) + 1) * len(token_ids[number]) > BATCH_TOKENS:
            found.append(batch)
            batch = []
        batch.append(number)
    return [*found, batch]


def padded(texts: Sequence[Ids]) -> tuple[Ids, Ids]:
    """Token ids and attention mask: (n_texts, tokens of the longest text)."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


def in_padded_batches(run: Callable[[Ids, Ids], Matrix]) -> Embed:
    """A function that embeds any number of texts with `run`, which embeds one padded batch."""

    def embed(token_ids: Sequence[Ids]) -> Matrix:
        order = batches(token_ids)
        vectors = [run(*padded([token_ids[number] for number in batch])) for batch in order]
        return np.concatenate(vectors)[np.argsort(np.concatenate(order))]

    return embed
