"""How far a prepared model's vectors are from the original's, and whether that is near enough to save."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.postprocess import Vectors
from embedder.prepare.errors import VerificationError

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
        """Names of the figures under the floor's; NaN is under every floor."""
        return [name for name, least in asdict(floor).items() if not getattr(self, name) >= least]


# Against sentence-transformers' vectors in fp32. fp32 differs by rounding alone.
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


def check(agreement: Agreement, quantization: str) -> None:
    """Raises VerificationError naming every figure below the floor and what to try."""
    if failed := agreement.below(FLOORS[quantization]):
        figures = ", ".join(f"{name} {getattr(agreement, name):.6f}" for name in failed)
        raise VerificationError(
            f"{quantization} vectors are too far from the original's ({figures}); "
            f"nothing was saved; {REMEDIES[quantization]}"
        )


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; ties are broken by place, which for similarities of real texts do not occur."""
    x, y = (np.argsort(np.argsort(values)) - (len(values) - 1) / 2 for values in (a, b))
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _nearest(similarities: Floats) -> NDArray[np.intp]:
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    nearest: NDArray[np.intp] = others.argmax(axis=1)
    return nearest


@dataclass(frozen=True)
class Golden:
    """Similarities that a model's authors publish."""

    query: str
    documents: Sequence[str]
    similarities: Sequence[float]
    tolerance: float
    source: str


GOLDEN: Mapping[str, Golden] = {
    "google/embeddinggemma-300m": Golden(
        query="Which planet is known as the Red Planet?",
        documents=(
            "Venus is often called Earth's twin because of its similar size and proximity.",
            "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
            "Jupiter, the largest planet in our solar system, has a prominent red spot.",
            "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
        ),
        similarities=(0.3011, 0.6359, 0.4930, 0.4889),
        tolerance=0.03,  # wide enough for int8, narrow enough for a lost prompt or a causal mask
        source="model card, huggingface.co/google/embeddinggemma-300m, with encode_query and encode_document",
    ),
}


def check_golden(golden: Golden, query: Vectors, documents: Vectors) -> list[float]:
    """query (1, dimensions), documents (n, dimensions). Raises VerificationError when one is off."""
    found = [float(value) for value in documents @ query[0]]
    if max(abs(a - b) for a, b in zip(found, golden.similarities, strict=True)) > golden.tolerance:
        shown = ", ".join(f"{value:.4f}" for value in found)
        raise VerificationError(
            f"similarities are {shown} where {golden.source} gives {list(golden.similarities)}; nothing was saved; "
            "update transformers and sentence-transformers, or set MODEL_BACKEND=torch"
        )
    return found
