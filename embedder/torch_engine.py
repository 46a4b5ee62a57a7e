"""Any sentence-transformers model, unchanged, on a CPU or GPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedder.errors import NoTorchError
from embedder.postprocess import Vectors, normalise
from embedder.tokenized_text import TokenIds

try:
    import torch
    from sentence_transformers import SentenceTransformer
except ImportError as error:
    raise NoTorchError from error


class TorchEngine:
    """Padded batches through sentence-transformers' own modules."""

    def __init__(self, directory: Path, *, num_threads: int, batch_tokens: int) -> None:
        torch.set_num_threads(num_threads)
        self.kernel = device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = SentenceTransformer(
            str(directory), device=device, local_files_only=True
        ).eval()
        tokenizer = self._model.tokenizer
        self._pad_id = tokenizer.pad_token_id or 0
        self._pad_left = tokenizer.padding_side == "left"
        self._batch_tokens = batch_tokens

    def forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """(n_texts, dimensions) float32, L2-normalised, in the order given; at least one text."""
        batches = packs([len(ids) for ids in token_ids], budget=self._batch_tokens)
        rows = [self._padded_batch([token_ids[index] for index in batch]) for batch in batches]
        vectors = np.concatenate(rows)
        vectors[np.concatenate(batches)] = vectors.copy()
        return vectors

    def _padded_batch(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """The same for one padded batch."""
        width = max(len(ids) for ids in token_ids)
        input_ids = np.full((len(token_ids), width), self._pad_id, np.int64)
        mask = np.zeros_like(input_ids)
        for row, ids in enumerate(token_ids):
            place = slice(width - len(ids), width) if self._pad_left else slice(0, len(ids))
            input_ids[row, place], mask[row, place] = ids, 1
        features = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
        }
        with torch.inference_mode():
            output = self._model(
                {name: value.to(self._model.device) for name, value in features.items()}
            )
        return normalise(output["sentence_embedding"].float().cpu().numpy())


def packs(lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """Indices of the texts in packs of at most `budget` tokens, longest texts first.

    A text longer than the budget gets a pack of its own. Sorting by length keeps padding low.
    """
    found: list[list[int]] = []
    space = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not found or lengths[index] > space:
            found.append([])
            space = budget
        found[-1].append(index)
        space -= lengths[index]
    return found
