"""Rounds of a workload, in which the sides take turns, and figures of them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peak import WEIGHTS, Peak
from benchmarks.peers import Matrix
from benchmarks.sides import Side
from benchmarks.workloads import Workload, texts
from lab.figures import spread
from lab.results import FP32

Spread = dict[str, float]


@dataclass
class Rounds:
    """The measurements of one workload, by side."""

    workload: Workload
    seconds: dict[str, list[float]]
    peaks: list[Peak] = field(default_factory=list)
    vectors: dict[str, Matrix] = field(default_factory=dict)

    def rates(self) -> dict[str, Spread]:
        """Tokens per second, by side."""
        n_tokens = self.workload.n_tokens
        return {
            name: spread([n_tokens / one for one in taken]) for name, taken in self.seconds.items()
        }

    def times_faster(self, side: str) -> dict[str, Spread]:
        """How many times faster `side` is than each side.

        Ratios are within a round, so that a slow period of the machine affects both.
        """
        own = self.seconds[side]
        return {
            name: spread(np.divide(taken, own).tolist()) for name, taken in self.seconds.items()
        }

    def share_of_bound(self, side: str, *, weights: int = WEIGHTS) -> Spread:
        """The least time that the machine needs, as a share of the time of `side`."""
        bounds = [one.bound(self.workload.n_tokens, weights=weights) for one in self.peaks]
        return spread(np.divide(bounds, self.seconds[side]).tolist())

    def cosines(self, reference: str = FP32) -> dict[str, Matrix]:
        """The cosine of each text to its vector of `reference`, by side; (n_texts,)."""
        if reference not in self.vectors:
            return {}
        exact = self.vectors[reference]
        return {name: (vectors * exact).sum(axis=1) for name, vectors in self.vectors.items()}

    def least_cosines(self, reference: str = FP32) -> dict[str, float]:
        """The smallest of them, by side."""
        return {name: float(found.min()) for name, found in self.cosines(reference).items()}


def measure(
    sides: Mapping[str, Side], workload: Workload, peak: Callable[[], Peak] | None = None
) -> Rounds:
    """Run a workload. The order of the sides is random in each round, so that noise affects all."""
    token_ids = texts(workload.lengths)
    random = np.random.default_rng(0)
    found = Rounds(workload, {name: [] for name in sides})
    for number in range(workload.rounds):
        print(f"{workload.name}, round {number + 1}", file=sys.stderr, flush=True)
        if peak:
            found.peaks.append(peak())
        for name in map(str, random.permutation(list(sides))):
            seconds, found.vectors[name] = sides[name](token_ids, workload.calls)
            found.seconds[name].append(float(np.median(seconds)))
    return found


def by_workload(
    measured: Sequence[Rounds], figure: Callable[[Rounds], object]
) -> dict[str, object]:
    return {rounds.workload.name: figure(rounds) for rounds in measured}


def least_times_faster(measured: Sequence[Rounds], side: str) -> dict[str, float]:
    """The median ratio of the workload in which `side` is worst, by other side."""
    ratios = [rounds.times_faster(side) for rounds in measured]
    return {name: min(one[name]["median"] for one in ratios) for name in ratios[0]}


def least_cosines(measured: Sequence[Rounds]) -> dict[str, float]:
    """The smallest cosine of any text of any workload, by side."""
    cosines = [rounds.least_cosines() for rounds in measured]
    return {name: min(one[name] for one in cosines) for name in cosines[0]}
