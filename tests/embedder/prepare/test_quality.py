import numpy as np
import pytest

from embedder.postprocess import Vectors, normalise
from embedder.prepare.errors import VerificationError
from embedder.prepare.quality import ENCODINGS, FLOORS, measure
from embedder.prepare.verify import Agreement, compare, recall_at_10

SHAPE = (40, 64)
KINDS = ["first", *["others"] * 39]


def vectors(seed: int = 0) -> Vectors:
    return normalise(np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32))


def moved(share: float) -> Vectors:
    return normalise(vectors() + np.float32(share) * vectors(1))


def test_vectors_agree_with_themselves() -> None:
    assert np.allclose(list(compare(vectors(), vectors()).__dict__.values()), 1)


def test_vectors_that_differ_more_agree_less() -> None:
    near, far = (compare(moved(share), vectors()) for share in (0.01, 0.3))
    assert far.below(near) == list(Agreement.__annotations__)
    assert near.below(far) == []


def test_one_bad_text_lowers_the_least_cosine_and_names_its_kind() -> None:
    bad = vectors()
    bad[0] = bad[1]
    quality = measure(bad, vectors(), kinds=KINDS, sizes=(64,), precision="int8")
    assert quality.full.min_cosine < 0.9 < quality.full.mean_cosine
    with pytest.raises(VerificationError, match=r"least similar: first, .*MODEL_QUANTIZATION=fp16"):
        quality.require_floors("int8")


def test_recall_counts_the_neighbours_that_both_have() -> None:
    assert recall_at_10(vectors(), vectors()) == 1
    assert recall_at_10(vectors(), vectors(2)) < 0.5
    assert recall_at_10(vectors()[:, :8], vectors()) < 1


def test_every_size_and_encoding_is_compared() -> None:
    quality = measure(vectors(), vectors(), kinds=KINDS, sizes=(64, 32), precision="int8")
    assert [(output.dimensions, output.encoding) for output in quality.outputs] == [
        (size, encoding) for size in (64, 32) for encoding in ENCODINGS
    ]
    losses = [1 - output.recall_of_original for output in quality.outputs]
    assert losses[0] == 0 < losses[1] < losses[2]  # encodings cost something of the original's
    quality.require_floors("int8")


def test_a_fault_of_the_last_dimensions_alone_is_seen_at_full_size_alone() -> None:
    bad = vectors()
    bad[:, 32:] *= -1
    quality = measure(bad, vectors(), kinds=KINDS, sizes=(64, 32), precision="int8")
    failing = {output.dimensions for output in quality.outputs if [*output.failures()]}
    assert failing == {64}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_below_every_floor(value: float) -> None:
    bad = vectors()
    bad[3, 5] = value
    agreement = compare(bad, vectors())
    assert agreement.below(FLOORS["int8"]["binary"]) == list(Agreement.__annotations__)


def test_floors_rise_with_the_precision() -> None:
    for encoding in ENCODINGS:
        int8, fp16, fp32 = (FLOORS[precision][encoding] for precision in ("int8", "fp16", "fp32"))
        assert fp16.below(int8) == fp32.below(fp16) == []
