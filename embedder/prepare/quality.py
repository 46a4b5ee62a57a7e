"""How close a prepared model is to its original, in every form that callers can ask for.

The figures are compared with floors before the model is saved, and both are stored with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedder.postprocess import Vectors, normalise, to_binary, to_int8, truncate_vectors
from embedder.prepare.errors import VerificationError
from embedder.prepare.verify import Agreement, compare, cosines, recall_at_10


def _signs(vectors: Vectors) -> Vectors:
    """1 and -1 for the bits, so that a cosine is 1 - 2 * the share of bits that differ."""
    bits = np.unpackbits(to_binary(vectors), axis=1)[:, : vectors.shape[1]]
    return normalise(bits.astype(np.float32) * 2 - 1)


ENCODINGS: Mapping[str, Callable[[Vectors], Vectors]] = {
    "float": lambda vectors: vectors,
    "int8": lambda vectors: normalise(to_int8(vectors).astype(np.float32)),
    "binary": _signs,
}
# By precision of the weights and encoding of the vectors. fp32 differs by rounding only. A bit
# flips where a value is near 0: at a cosine of 0.999, an angle of 0.045, in 1.4 % of the bits. One
# of 48 bits costs 0.04, so the floors of single texts are low. A right rounding to int8 has a mean
# of 0.99947 to 0.9998 so far. tests/embedder/prepare/test_bad_exports.py has faults that are
# refused.
FLOORS: Mapping[str, Mapping[str, Agreement]] = {
    "fp32": {
        "float": Agreement(0.999999, 0.999999, 0.999999, 0.9999, 0.97),
        "int8": Agreement(0.9999, 0.9999, 0.999, 0.999, 0.95),
        "binary": Agreement(0.998, 0.98, 0.9, 0.999, 0.95),
    },
    "fp16": {
        "float": Agreement(0.9999, 0.9999, 0.9999, 0.9995, 0.97),
        "int8": Agreement(0.9998, 0.9995, 0.999, 0.999, 0.95),
        "binary": Agreement(0.99, 0.95, 0.85, 0.995, 0.9),
    },
    "int8": {
        "float": Agreement(0.999, 0.998, 0.997, 0.999, 0.9),
        "int8": Agreement(0.9985, 0.9975, 0.996, 0.9985, 0.9),
        "binary": Agreement(0.97, 0.9, 0.8, 0.96, 0.75),
    },
}
SLACK = 2  # smaller sizes may lose twice as much, since fewer values average out less
REMEDIES: Mapping[str, str] = {
    "int8": "try MODEL_QUANTIZATION=fp16, then fp32",
    "fp16": "try MODEL_QUANTIZATION=fp32",
    "fp32": "the native engine is wrong for this model: set MODEL_BACKEND=torch",
}


@dataclass(frozen=True, kw_only=True)
class Output:
    """The agreement of one size and encoding with the same of the original.

    Attributes:
        dimensions: of the vectors.
        encoding: one of ENCODINGS.
        agreement: with the original's vectors, truncated and encoded in the same way.
        floor: the least that the agreement must reach.
        recall_of_original: share of the 10 nearest texts that are also nearest by the original's
            vectors of full size in fp32: what a caller loses by a smaller size or an encoding.
    """

    dimensions: int
    encoding: str
    agreement: Agreement
    floor: Agreement
    recall_of_original: float

    def failures(self) -> Iterator[str]:
        """Each figure below its floor, in words."""
        for name in self.agreement.below(self.floor):
            found, least = (getattr(one, name) for one in (self.agreement, self.floor))
            yield f"{name} {found:.6f} of {self.dimensions} {self.encoding}, at least {least:.6g}"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The report of one preparation.

    Attributes:
        n_texts: that were compared.
        outputs: by size, descending, and encoding.
        least_by_kind: the least cosine of full-size float vectors, by kind of text.
    """

    n_texts: int
    outputs: Sequence[Output]
    least_by_kind: Mapping[str, float]

    @property
    def full(self) -> Agreement:
        """Of float vectors of full size."""
        return self.outputs[0].agreement

    def to_fields(self) -> dict[str, Any]:
        """As JSON; a profile stores it."""
        return {
            "texts": self.n_texts,
            "to_original": asdict(self.full),
            "outputs": [asdict(output) for output in self.outputs],
            "least_by_kind": dict(self.least_by_kind),
        }

    def require_floors(self, precision: str) -> None:
        """Raises VerificationError with the figures below their floors, and what to try."""
        failed = [failure for output in self.outputs for failure in output.failures()]
        if not failed:
            return
        kind = min(self.least_by_kind, key=self.least_by_kind.__getitem__)
        raise VerificationError(
            f"{precision} vectors are too far from the original's ({'; '.join(failed[:5])}; least "
            f"similar: {kind}, cosine {self.least_by_kind[kind]:.4f}); nothing was saved; "
            f"{REMEDIES[precision]}"
        )


def measure(
    vectors: Vectors,
    reference: Vectors,
    *,
    kinds: Sequence[str],
    sizes: Sequence[int],
    precision: str,
) -> Quality:
    """Compare a prepared model with its original.

    Args:
        vectors: of the prepared model, (n_texts, dimensions), L2-normalised; n_texts > 10.
        reference: of the original in fp32, the same shape.
        kinds: of each text.
        sizes: dimensions that callers may ask for, descending, the first is `dimensions`.
        precision: of the prepared weights.
    """
    least: dict[str, float] = {}
    for kind, cosine in zip(kinds, cosines(vectors, reference).tolist(), strict=True):
        least[kind] = min(least.get(kind, np.inf), cosine)
    outputs = [
        _output(vectors, reference, dimensions=size, encoding=encoding, precision=precision)
        for size in sizes
        for encoding in ENCODINGS
    ]
    return Quality(n_texts=len(vectors), outputs=outputs, least_by_kind=least)


def _output(
    vectors: Vectors, reference: Vectors, *, dimensions: int, encoding: str, precision: str
) -> Output:
    encode, floor = ENCODINGS[encoding], FLOORS[precision][encoding]
    ours, theirs = (encode(truncate_vectors(rows, dimensions)) for rows in (vectors, reference))
    return Output(
        dimensions=dimensions,
        encoding=encoding,
        agreement=compare(ours, theirs),
        floor=floor if dimensions == vectors.shape[1] else floor.relaxed(SLACK),
        recall_of_original=recall_at_10(ours, reference),
    )
