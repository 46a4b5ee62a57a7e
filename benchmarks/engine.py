"""Compare the bare engine with others, on EmbeddingGemma's architecture with random weights.

    python -m benchmarks.engine [--json PATH] [--quick]

All sides get the same token ids and two threads, each in its own process, in turns. Each round also
measures the peak of the machine, so that shares are of the peak at that time.
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import peak
from benchmarks.report import arguments, save
from benchmarks.rounds import Rounds, by_workload, least_cosines, least_times_faster, measure
from benchmarks.sides import SIDES, THREADS, loaded
from benchmarks.workloads import AT_128, ONE_2048, QUICK, WORKLOADS
from lab.figures import spread
from lab.results import HELD_BACK, OURS

LEAST_COSINE = 0.95  # int8 has 0.99 or more; with one wrong layer the cosine is 0.87


def summary(measured: Sequence[Rounds]) -> dict[str, Any]:
    """All figures, by workload or by side."""
    rates: dict[str, Any] = by_workload(measured, Rounds.rates)
    long, short = (rates[name][OURS]["median"] for name in (ONE_2048, AT_128))
    return {
        "tokens": by_workload(measured, lambda rounds: rounds.workload.n_tokens),
        "tokens_per_second": rates,
        "times_faster_than": by_workload(measured, lambda rounds: rounds.times_faster(OURS)),
        "least_times_faster": least_times_faster(measured, OURS),
        "rate_at_2048_of_rate_at_128": long / short,
        "share_of_bound": by_workload(measured, lambda rounds: rounds.share_of_bound(OURS)),
        "peak": peaks([one for rounds in measured for one in rounds.peaks]),
        "least_cosine_to_fp32": least_cosines(measured),
    }


def peaks(measured: Sequence[peak.Peak]) -> dict[str, Any]:
    """The peak of the machine over the whole run."""
    return {
        "instruction": measured[0].instruction,
        "gops_per_core": spread([one.gops_per_core for one in measured]),
        "gops": spread([one.gops for one in measured]),
        "gb_per_second": spread([one.gb_per_second for one in measured]),
    }


def main() -> int:
    options = arguments("engine", __doc__)
    workloads = QUICK if options.quick else WORKLOADS
    with loaded([name for name in SIDES if name not in HELD_BACK]) as (sides, missing):
        measured = [measure(sides, one, lambda: peak.measure(THREADS)) for one in workloads]
        of_sides = {
            "pss_mb": {name: side.pss_mb() for name, side in sides.items()},
            "versions": {name: side.version for name, side in sides.items() if side.version},
            "unavailable": missing,
        }
    save(options.json, {**summary(measured), **of_sides, "weights": "random, as good for speed"})
    cosines = least_cosines(measured)
    wrong = [name for name, cosine in cosines.items() if cosine < LEAST_COSINE]
    if wrong:
        print(f"not comparable, wrong vectors: {', '.join(wrong)}", file=sys.stderr)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
