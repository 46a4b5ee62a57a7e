"""Many texts to packs, each one forward pass of bounded memory."""

from collections.abc import Callable, Sequence

import numpy as np

from embedder.errors import VectorCountError
from embedder.postprocess import Vectors
from embedder.tokens import TokenIds


def pack(lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """Group texts, longest first, into packs of at most `budget` tokens.

    Returns the texts' indices by pack. A text longer than the budget gets a pack of its own. Sorting
    puts texts of one length together, which a padded batch wants.
    """
    packs: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not packs or lengths[index] > room:
            packs.append([])
            room = budget
        packs[-1].append(index)
        room -= lengths[index]
    return packs


def embed_packs(
    forward: Callable[[Sequence[TokenIds]], Vectors],
    token_ids: Sequence[TokenIds],
    *,
    budget: int,
) -> Vectors:
    """One `forward` per pack, its rows put back in the order given: (n_texts, dimensions).

    `token_ids` holds at least one text. Raises VectorCountError.
    """
    rows: list[Vectors] = [np.empty(0, np.float32)] * len(token_ids)
    for indices in pack([len(ids) for ids in token_ids], budget=budget):
        vectors = forward([token_ids[index] for index in indices])
        if len(vectors) != len(indices):
            raise VectorCountError(f"{len(vectors)} vectors for {len(indices)} texts")
        for index, vector in zip(indices, vectors, strict=True):
            rows[index] = vector
    return np.stack(rows)
