"""Compare a prepared model's vectors with the original's, and decide whether to save it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from embedder.postprocess import Vectors
from embedder.prepare.errors import VerificationError
from embedder.prepare.families.family import Golden

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Agreement:
    """Two sets of vectors of the same texts."""

    min_cosine: float
    mean_cosine: float
    rank_correlation: float  # Spearman, over the similarities of all pairs of texts
    top1: float  # share of texts whose nearest other text is the same
    finite: bool

    def below(self, floor: "Agreement") -> list[str]:
        """Names of the figures below those of `floor`. NaN counts as below."""
        return [name for name, least in asdict(floor).items() if not getattr(self, name) >= least]


# Against sentence-transformers' vectors in fp32. fp32 differs by rounding only.
FLOORS: Mapping[str, Agreement] = {
    "fp32": Agreement(0.999999, 0.999999, 0.9999, 0.97, True),
    "fp16": Agreement(0.9999, 0.9999, 0.9995, 0.97, True),
    "int8": Agreement(0.997, 0.9995, 0.9995, 0.90, True),
}
REMEDIES: Mapping[str, str] = {
    "int8": "try MODEL_QUANTIZATION=fp16, then fp32",
    "fp16": "try MODEL_QUANTIZATION=fp32",
    "fp32": "the native engine is wrong for this model: set MODEL_BACKEND=torch",
}


def compare(vectors: Vectors, reference: Vectors) -> Agreement:
    """Both (n_texts, dimensions), L2-normalised, n_texts >= 3."""
    if not np.isfinite(vectors).all():
        return Agreement(np.nan, np.nan, np.nan, np.nan, False)
    a, b = (
        rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        for rows in (vectors, reference)
    )
    cosines, ours, theirs = np.sum(a * b, axis=1), a @ a.T, b @ b.T
    pairs = np.triu_indices(len(vectors), k=1)
    return Agreement(
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        rank_correlation=spearman(ours[pairs], theirs[pairs]),
        top1=float(np.mean(_nearest(ours) == _nearest(theirs))),
        finite=True,
    )


def require_floor(agreement: Agreement, quantization: str) -> None:
    """Compare an agreement with the least that `quantization` must reach.

    Raises:
        VerificationError: names every figure below its floor, and what to try.
    """
    if failed := agreement.below(FLOORS[quantization]):
        figures = ", ".join(f"{name} {getattr(agreement, name):.6f}" for name in failed)
        raise VerificationError(
            f"{quantization} vectors are too far from the original's ({figures}); "
            f"nothing was saved; {REMEDIES[quantization]}"
        )


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two arrays, (n,)."""
    return float(spearmanr(a, b).statistic)


def _nearest(similarities: Floats) -> NDArray[np.intp]:
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    nearest: NDArray[np.intp] = others.argmax(axis=1)
    return nearest


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
