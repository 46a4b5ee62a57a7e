"""Does a vector depend on its neighbours, and what does int8 cost?

    python -m benchmarks.quality [--json PATH]

Invariance: each text alone against the same text in packs of others; no bit may differ. Quality:
int8 against fp32 on the starter model's real weights, by cosine and by Spearman's correlation of
all pairs' similarities.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import arguments, save
from benchmarks.workloads import mixed_lengths, texts
from embedder.model import EmbeddingModel
from embedder.postprocess import Vectors
from embedder.prepare.sentences import SENTENCES
from embedder.tokens import TokenIds
from lab.models import prepared, random_embeddinggemma


def load(directory: Path) -> EmbeddingModel:
    return EmbeddingModel.load(directory, num_threads=2)


def differing(model: EmbeddingModel, token_ids: Sequence[TokenIds]) -> int:
    """Vectors in which a bit differs between a text alone and among others, in three orders."""
    alone = np.concatenate([model.engine.embed([ids]) for ids in token_ids])
    random, count = np.random.default_rng(0), 0
    for _ in range(3):
        order = random.permutation(len(token_ids))
        together = model.engine.embed([token_ids[index] for index in order])
        count += int((together != alone[order]).any(axis=1).sum())
    return count


def against(quantised: Vectors, reference: Vectors) -> dict[str, float]:
    """Cosines text by text, and how alike the two rank all pairs of texts."""
    cosines = (quantised * reference).sum(axis=1)
    upper = np.triu_indices(len(reference), 1)
    pairs = [(vectors @ vectors.T)[upper] for vectors in (quantised, reference)]
    spearman = _pearson(*(np.argsort(np.argsort(values)).astype(np.float64) for values in pairs))
    return {
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
        "spearman_of_pairs": spearman,
    }


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def main() -> None:
    path = arguments("quality", __doc__).json
    gemma = str(random_embeddinggemma())
    mixed = texts(mixed_lengths(3_000))
    alone: dict[str, int] = {}
    for precision in ("int8", "fp32"):
        large, starter = load(prepared(gemma, precision)), load(prepared(None, precision))
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
