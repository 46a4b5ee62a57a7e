"""Measure whether a vector depends on its batch, and the quality of int8.

    python -m benchmarks.quality [--json PATH]

Invariance: each text alone and the same text in batches; no bit may differ. Quality: int8 against
fp32 with the real weights of the starter model, by cosine and by Spearman's correlation of the
similarities of all pairs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import arguments, save
from benchmarks.workloads import mixed_lengths, texts
from embedder.model import EmbeddingModel
from embedder.postprocess import Vectors
from embedder.prepare.sentences import SENTENCES
from embedder.prepare.verify import spearman
from embedder.tokens import TokenIds
from lab.models import prepared, random_embeddinggemma


def load(directory: Path) -> EmbeddingModel:
    return EmbeddingModel.load(directory, num_threads=2)


def differing(model: EmbeddingModel, token_ids: Sequence[TokenIds]) -> int:
    """The number of vectors with a bit that differs between alone and in a batch, in 3 orders."""
    alone = np.concatenate([model.engine.forward([ids]) for ids in token_ids])
    random = np.random.default_rng(0)
    count = 0
    for _ in range(3):
        order = random.permutation(len(token_ids))
        together = model.engine.forward([token_ids[index] for index in order])
        count += int((together != alone[order]).any(axis=1).sum())
    return count


def against(quantised: Vectors, reference: Vectors) -> dict[str, float]:
    """Cosines per text, and the rank correlation of the similarities of all pairs."""
    cosines = (quantised * reference).sum(axis=1)
    upper = np.triu_indices(len(reference), 1)
    pairs = [(vectors @ vectors.T)[upper] for vectors in (quantised, reference)]
    return {
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
        "spearman_of_pairs": spearman(*pairs),
    }


def main() -> None:
    path = arguments("quality", __doc__).json
    gemma = str(random_embeddinggemma())
    mixed = texts(mixed_lengths(3_000))
    alone: dict[str, int] = {}
    for precision in ("int8", "fp32"):
        large = load(prepared(gemma, precision))
        starter = load(prepared(None, precision))
        tokens = starter.tokenizer.encode(SENTENCES, max_tokens=starter.max_tokens)
        of_starter = differing(starter, [text.ids for text in tokens])
        alone[precision] = differing(large, mixed) + of_starter
        del large
    vectors = {
        precision: load(prepared(None, precision)).embed(SENTENCES)
        for precision in ("int8", "fp32")
    }
    save(
        path,
        {
            "differing": alone,
            "starter_int8_against_fp32": against(vectors["int8"], vectors["fp32"]),
        },
    )


if __name__ == "__main__":
    main()
