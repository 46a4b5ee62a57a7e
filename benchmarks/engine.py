"""The bare engine against others on EmbeddingGemma's architecture at full size (random weights).

    python -m benchmarks.engine [--json PATH] [--quick]

The same token ids for all sides, two threads, each side in a process of its own, taking turns. Tokens a second; for
one short text, milliseconds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.report import arguments, save, spread
from benchmarks.roofline import ROWS
from benchmarks.sides import LOADERS, ROOFLINE, Side
from benchmarks.tables import OURS
from embedder.tokens import TokenIds

VOCABULARY = 262_144
AT_128 = "texts of 128 tokens"


def texts(lengths: Sequence[int], *, seed: int = 0) -> list[TokenIds]:
    """Random token ids of the given lengths."""
    random = np.random.default_rng(seed)
    return [random.integers(10, VOCABULARY, int(length), dtype=np.int64) for length in lengths]


def mixed_lengths(total: int, *, seed: int = 0) -> list[int]:
    """Log-normal lengths of 8 to 512 tokens, `total` tokens in all."""
    random, lengths = np.random.default_rng(seed), list[int]()
    while sum(lengths) < total:
        lengths.append(int(np.clip(random.lognormal(4.2, 1.0), 8, 512)))
    return lengths


Workloads = dict[str, tuple[list[int], int]]  # lengths of the texts, and rounds
Seconds = dict[str, dict[str, list[float]]]  # by workload and side
WORKLOADS: Workloads = {
    "one text of 16 tokens": ([16], 60),
    AT_128: ([128] * 8, 16),
    "mixed 8-512 tokens": (mixed_lengths(20_000), 3),
    "texts of 2,048 tokens": ([2048], 5),
}
# A fifth of the work, for a busy machine: about five minutes.
QUICK: Workloads = {
    "one text of 16 tokens": ([16], 20),
    AT_128: ([128] * 8, 4),
    "mixed 8-512 tokens": (mixed_lengths(4_000), 1),
    "texts of 2,048 tokens": ([2048], 1),
}


def ratios(seconds: Seconds) -> dict[str, dict[str, float]]:
    """How many times faster our int8 is than each other side: the median of the rounds' ratios.

    The sides of one round are neighbours in time, so what slows the machine for seconds falls on both.
    """
    return {
        workload: {name: float(np.median(np.divide(values, by_side[OURS]))) for name, values in by_side.items()}
        for workload, by_side in seconds.items()
    }


def measure(side_names: Sequence[str], workloads: Workloads) -> Seconds:
    """Seconds by workload and side, the sides taking turns in a new order each round: noise falls on all of them."""
    sides, random = {name: Side(name) for name in side_names}, np.random.default_rng(0)
    seconds: Seconds = {}
    for workload, (lengths, rounds) in workloads.items():
        token_ids = texts(lengths)
        for side in sides.values():
            side(token_ids)  # warm-up
        orders = [random.permutation(list(sides)) for _ in range(rounds)]
        taken = [{str(name): sides[name](token_ids) for name in order} for order in orders]
        seconds[workload] = {name: [one[name] for one in taken] for name in sides}
    for side in sides.values():
        side.close()
    return seconds


def main() -> None:
    options = arguments("engine", __doc__)
    workloads = QUICK if options.quick else WORKLOADS
    seconds = measure(list(LOADERS), workloads)
    save(options.json, {**summary(workloads, seconds), "weights": "random; speed does not depend on them"})


def summary(workloads: Workloads, seconds: Seconds) -> dict[str, Any]:
    """Tokens a second by workload and side, ratios, and the share of the roofline."""
    products = {workload: by_side.pop(ROOFLINE) for workload, by_side in seconds.items()}
    ceiling = np.divide(ROWS, products[AT_128])
    reached = np.divide(sum(workloads[AT_128][0]), seconds[AT_128][OURS])
    rates = {
        workload: {
            name: spread([sum(workloads[workload][0]) / value for value in values]) for name, values in by_side.items()
        }
        for workload, by_side in seconds.items()
    }
    return {
        "tokens": {workload: sum(lengths) for workload, (lengths, _) in workloads.items()},
        "tokens_per_second": rates,
        "times_faster_than": ratios(seconds),
        "one_short_text_ms": {
            name: spread([1000 * value for value in values])
            for name, values in seconds["one text of 16 tokens"].items()
        },
        "roofline_tokens_per_second": spread(ceiling.tolist()),
        "share_of_roofline_at_128": float(np.median(reached / ceiling)),
    }


if __name__ == "__main__":
    main()
