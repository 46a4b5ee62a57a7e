"""Compare a prepared model's vectors with the original's, and with published similarities."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from embedder.postprocess import Vectors
from embedder.prepare.errors import VerificationError
from embedder.prepare.families.family import Golden

Floats = NDArray[np.floating[Any]]
NEIGHBOURS = 10
TIE = 1e-6  # rounding of fp32 vectors


@dataclass(frozen=True)
class Agreement:
    """Two sets of vectors of the same texts. All figures are NaN if a value is not finite."""

    mean_cosine: float
    p1_cosine: float  # 1st percentile
    min_cosine: float
    rank_correlation: float  # Spearman, over the similarities of all pairs of texts
    recall_at_10: float  # share of each text's 10 nearest other texts that are the same

    def below(self, floor: "Agreement") -> list[str]:
        """Names of the figures below those of `floor`. NaN counts as below."""
        return [name for name, least in asdict(floor).items() if not getattr(self, name) >= least]

    def relaxed(self, factor: float) -> "Agreement":
        """Floors that are `factor` times as far from 1."""
        return Agreement(*(1 - factor * (1 - least) for least in asdict(self).values()))


def compare(vectors: Vectors, reference: Vectors) -> Agreement:
    """Both (n_texts, dimensions), L2-normalised, n_texts > 10."""
    if not np.isfinite(vectors).all():
        return Agreement(*[np.nan] * 5)
    by_text = cosines(vectors, reference)
    pairs = np.triu_indices(len(vectors), k=1)
    ours, theirs = (_similarities(rows)[pairs] for rows in (vectors, reference))
    return Agreement(
        mean_cosine=float(by_text.mean()),
        p1_cosine=float(np.percentile(by_text, 1)),
        min_cosine=float(by_text.min()),
        rank_correlation=spearman(ours, theirs),
        recall_at_10=recall_at_10(vectors, reference),
    )


def cosines(vectors: Vectors, reference: Vectors) -> Floats:
    """(n_texts,). In fp64, since a floor is 1 - 1e-6."""
    found: Floats = np.sum(_normalised(vectors) * _normalised(reference), axis=1)
    return found


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two arrays, (n,)."""
    return float(spearmanr(a, b).statistic)


def recall_at_10(vectors: Vectors, reference: Vectors) -> float:
    """The mean share of each text's 10 nearest other texts that are among those of the reference.

    The sets may differ in their dimensions. A text as near as the tenth counts as well: texts of
    unknown characters alone have one vector.
    """
    found, true = _similarities(vectors), _similarities(reference)
    for similarities in (found, true):
        np.fill_diagonal(similarities, -np.inf)
    nearest = np.argpartition(-found, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    tenth = -np.partition(-true, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
    return float((np.take_along_axis(true, nearest, axis=1) >= tenth[:, None] - TIE).mean())


def _similarities(vectors: Vectors) -> Floats:
    rows = _normalised(vectors)
    similarities: Floats = rows @ rows.T
    return similarities


def _normalised(vectors: Vectors) -> Floats:
    rows = vectors.astype(np.float64)
    normalised: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


def golden_similarities(golden: Golden, query: Vectors, documents: Vectors) -> list[float]:
    """Similarities of the documents to the query, as close to those published as they must be.

    Args:
        golden: what the model's authors publish.
        query: (1, dimensions), L2-normalised.
        documents: (n_documents, dimensions), L2-normalised.

    Raises:
        VerificationError: one differs by more than the tolerance.
    """
    found = [float(value) for value in documents @ query[0]]
    differences = [abs(a - b) for a, b in zip(found, golden.similarities, strict=True)]
    if max(differences) > golden.tolerance:
        shown = ", ".join(f"{value:.4f}" for value in found)
        raise VerificationError(
            f"similarities are {shown} where {golden.source} gives {list(golden.similarities)}; "
            "nothing was saved; update transformers and sentence-transformers, or set "
            "MODEL_BACKEND=torch"
        )
    return found
