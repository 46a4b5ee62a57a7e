"""The workloads on which engines are compared: lengths of texts, and numbers of calls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers import Ids

VOCABULARY = 262_144


@dataclass(frozen=True)
class Workload:
    """Texts that are embedded in one call."""

    name: str
    lengths: Sequence[int]
    rounds: int
    calls: int = 1  # per turn of a side; their median counts

    @property
    def n_tokens(self) -> int:
        return sum(self.lengths)


def texts(lengths: Sequence[int], *, seed: int = 0) -> list[Ids]:
    """Random token ids of the given lengths."""
    random = np.random.default_rng(seed)
    return [random.integers(10, VOCABULARY, int(length), dtype=np.int64) for length in lengths]


def mixed_lengths(total: int, *, seed: int = 0) -> list[int]:
    """Log-normal lengths of 8 to 512 tokens, with at least `total` tokens in all."""
    random = np.random.default_rng(seed)
    lengths = list[int]()
    while sum(lengths) < total:
        lengths.append(int(np.clip(random.lognormal(4.2, 1.0), 8, 512)))
    return lengths


ONE_16, AT_128, MIXED = "1 × 16", "8 × 128", "mixed 8–512"
ONE_512, ONE_2048 = "1 × 512", "1 × 2,048"
WORKLOADS = (
    Workload(ONE_16, [16], rounds=30, calls=15),
    Workload(AT_128, [128] * 8, rounds=15, calls=2),
    Workload(MIXED, mixed_lengths(6_000), rounds=7),
    Workload(ONE_512, [512], rounds=15, calls=2),
    Workload(ONE_2048, [2048], rounds=7),
)
# A short form, which takes a few minutes.
QUICK = (
    Workload(ONE_16, [16], rounds=3, calls=3),
    Workload(AT_128, [128] * 8, rounds=2),
    Workload(MIXED, mixed_lengths(2_000), rounds=1),
    Workload(ONE_512, [512], rounds=2),
    Workload(ONE_2048, [2048], rounds=1),
)
