"""The bare engine against others on EmbeddingGemma's architecture at full size (random weights).

    python -m benchmarks.engine [--json PATH] [--quick]

The same token ids for all sides, two threads, each side in a process of its own, taking turns. Each
round measures the machine's peak as well, so that a share is of what the machine gave at that time.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import peak
from benchmarks.peers import Matrix
from benchmarks.report import arguments, save, spread
from benchmarks.sides import SIDES, THREADS, Side, loaded
from benchmarks.tables import AVX2, FP32, OPENVINO_AVX2, OURS
from benchmarks.workloads import QUICK, WORKLOADS, Workload, texts

LEAST_COSINE = 0.95  # int8 of any kind gives 0.99 and more, a layer that is computed wrongly 0.87
ONLY_IN_AVX2 = (AVX2, OPENVINO_AVX2)


@dataclass
class Rounds:
    """What the rounds of one workload gave, by side."""

    workload: Workload
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: list[peak.Peak] = field(default_factory=list)
    vectors: dict[str, Matrix] = field(default_factory=dict)

    def rates(self) -> dict[str, dict[str, float]]:
        """Tokens a second."""
        return {
            name: spread([self.workload.n_tokens / one for one in taken])
            for name, taken in self.seconds.items()
        }

    def times_faster(self, side: str = OURS) -> dict[str, dict[str, float]]:
        """How many times faster `side` is than each; ratios within a round, whose sides are
        neighbours in time: what slows the machine for seconds falls on both."""
        return {
            name: spread(np.divide(taken, self.seconds[side]).tolist())
            for name, taken in self.seconds.items()
        }

    def share_of_bound(self) -> dict[str, float]:
        """The least time that the machine would need, in the time that ours needs."""
        bounds = [one.bound(self.workload.n_tokens) for one in self.peaks]
        return spread(np.divide(bounds, self.seconds[OURS]).tolist())

    def least_cosines(self) -> dict[str, float]:
        """Of any text's vector and fp32's, by side."""
        exact = self.vectors[FP32]
        return {
            name: float((vectors * exact).sum(axis=1).min())
            for name, vectors in self.vectors.items()
        }


def measure(sides: Mapping[str, Side], workload: Workload, *, peaks: bool = True) -> Rounds:
    """The sides take turns in a new order each round: noise falls on all of them."""
    token_ids, random = texts(workload.lengths), np.random.default_rng(0)
    found = Rounds(workload, {name: [] for name in sides})
    for number in range(workload.rounds):
        print(f"{workload.name}, round {number + 1}", file=sys.stderr, flush=True)
        if peaks:
            found.peaks.append(peak.measure(THREADS))
        for name in map(str, random.permutation(list(sides))):
            seconds, found.vectors[name] = sides[name](token_ids, workload.calls)
            found.seconds[name].append(float(np.median(seconds)))
    return found


def summary(measured: Sequence[Rounds]) -> dict[str, Any]:
    """Every figure by workload, or by side."""
    cosines = [rounds.least_cosines() for rounds in measured if FP32 in rounds.vectors]
    peaks = [one for rounds in measured for one in rounds.peaks]
    return {
        "tokens": {rounds.workload.name: rounds.workload.n_tokens for rounds in measured},
        "tokens_per_second": {rounds.workload.name: rounds.rates() for rounds in measured},
        "times_faster_than": {rounds.workload.name: rounds.times_faster() for rounds in measured},
        "share_of_bound": {rounds.workload.name: rounds.share_of_bound() for rounds in measured},
        "nearer_bound": {
            rounds.workload.name: rounds.peaks[0].nearer(rounds.workload.n_tokens)
            for rounds in measured
        },
        "peak": {
            "instruction": peaks[0].instruction,
            "gops_per_core": spread([one.gops_per_core for one in peaks]),
            "gops": spread([one.gops for one in peaks]),
            "gb_per_second": spread([one.gb_per_second for one in peaks]),
        },
        "least_cosine_to_fp32": {
            name: min(one[name] for one in cosines) for name in measured[0].vectors if cosines
        },
    }


def main() -> int:
    options = arguments("engine", __doc__)
    names = [name for name in SIDES if name not in ONLY_IN_AVX2]
    with loaded(names) as (sides, missing):
        measured = [
            measure(sides, workload) for workload in (QUICK if options.quick else WORKLOADS)
        ]
        of_sides = {
            "pss_mb": {name: side.pss_mb() for name, side in sides.items()},
            "versions": {name: side.version for name, side in sides.items() if side.version},
        }
    figures = {**summary(measured), **of_sides, "unavailable": missing}
    save(options.json, {**figures, "weights": "random; speed does not depend on them"})
    wrong = [
        name for name, cosine in figures["least_cosine_to_fp32"].items() if cosine < LEAST_COSINE
    ]
    if wrong:
        print(
            f"Another model's vectors, so that the comparison is void: {', '.join(wrong)}",
            file=sys.stderr,
        )
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
