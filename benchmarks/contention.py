"""Measure the engine while other processes use the cores, with 8 texts of 128 tokens.

    python -m benchmarks.contention [--json PATH] [--quick]

Beside a busy process per core an engine can have half of each core; with a quota of 1.5 CPUs, three
quarters of two. Conditions alternate, with ours and v0.1 in each. Shares are within a round.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from benchmarks import neighbours
from benchmarks.report import arguments, save
from benchmarks.sides import loaded
from benchmarks.workloads import AT_128, WORKLOADS, texts
from lab.figures import spread
from lab.results import OURS, V0_1

QUIET = "quiet"
SPINNERS, QUOTA, EVENT_LOOP = (
    "a busy process on every core",
    "a quota of 1.5 CPUs",
    "an event loop at 500 requests/s",
)
CONDITIONS: dict[str, Callable[[int], AbstractContextManager[None]]] = {
    QUIET: neighbours.quiet,
    SPINNERS: neighbours.spinners,
    QUOTA: neighbours.quota,
    EVENT_LOOP: neighbours.event_loop,
}
CALLS = 12  # per turn: about 2 s on a quiet machine, 20 periods of a quota
Rates = dict[str, dict[str, list[float]]]  # tokens per second by condition and side


def measure(rounds: int, calls: int) -> tuple[Rates, dict[str, str]]:
    """Measure all conditions. A turn counts as a whole: its median could hide one slow call in ten.

    Returns the rates, and the reasons why sides are missing.
    """
    lengths = next(workload.lengths for workload in WORKLOADS if workload.name == AT_128)
    token_ids = texts(lengths)
    random = np.random.default_rng(0)
    with loaded([OURS, V0_1]) as (sides, missing):
        rates: Rates = {condition: {name: [] for name in sides} for condition in CONDITIONS}
        for number in range(rounds):
            print(f"round {number + 1}", file=sys.stderr, flush=True)
            for condition in map(str, random.permutation(list(CONDITIONS))):
                for name, side in sides.items():
                    with CONDITIONS[condition](side.pid):
                        seconds, _ = side(token_ids, calls)
                    rates[condition][name].append(sum(lengths) * calls / sum(seconds))
    return rates, missing


def summary(rates: Rates) -> dict[str, Any]:
    """Rates, and shares of the rate of the same side in the quiet part of the same round."""
    return {
        "tokens_per_second": {
            condition: {name: spread(values) for name, values in by_side.items()}
            for condition, by_side in rates.items()
        },
        "share_of_quiet": {
            condition: {
                name: spread(np.divide(values, rates[QUIET][name]).tolist())
                for name, values in by_side.items()
            }
            for condition, by_side in rates.items()
            if condition != QUIET
        },
    }


def main() -> None:
    options = arguments("contention", __doc__)
    rates, missing = measure(*((1, 3) if options.quick else (7, CALLS)))
    save(options.json, {**summary(rates), "unavailable": missing})


if __name__ == "__main__":
    main()
