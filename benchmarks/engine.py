"""The bare engine against others on EmbeddingGemma's architecture at full size (random weights).

    python -m benchmarks.engine [--json PATH] [--quick]

The same token ids for all sides, two threads, the sides taking turns. Tokens a second; for one short text,
milliseconds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.models import prepared, random_embeddinggemma
from benchmarks.peers import Embed, sentence_transformers, stock_int8
from benchmarks.report import arguments, interleaved, save, spread
from benchmarks.roofline import Roofline
from embedder.model import EmbeddingModel
from embedder.tokens import TokenIds

THREADS = 2
VOCABULARY = 262_144


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
WORKLOADS: Workloads = {
    "one text of 16 tokens": ([16], 30),
    "texts of 128 tokens": ([128] * 32, 4),
    "mixed 8-512 tokens": (mixed_lengths(20_000), 2),
    "texts of 2,048 tokens": ([2048] * 2, 2),
}
# A fifth of the work, for a busy machine: about five minutes.
QUICK: Workloads = {
    "one text of 16 tokens": ([16], 20),
    "texts of 128 tokens": ([128] * 32, 1),
    "mixed 8-512 tokens": (mixed_lengths(4_000), 1),
    "texts of 2,048 tokens": ([2048], 1),
}


def sides() -> dict[str, Embed]:
    """Every engine, loaded."""
    directory = random_embeddinggemma()
    ours = {precision: _ours(str(directory), precision) for precision in ("int8", "fp32")}
    return {
        "ours int8": ours["int8"],
        "ours fp32": ours["fp32"],
        "sentence-transformers fp32": sentence_transformers(directory, dtype=torch.float32, threads=THREADS),
        "sentence-transformers bf16": sentence_transformers(directory, dtype=torch.bfloat16, threads=THREADS),
        "ONNX Runtime dynamic int8": stock_int8(directory, threads=THREADS),
    }


def _ours(name: str, precision: str) -> Embed:
    return EmbeddingModel.load(prepared(name, precision), num_threads=THREADS).engine.embed


def ratios(seconds: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, float]]:
    """How many times faster our int8 is than each other side, from medians."""
    return {
        workload: {name: float(np.median(values) / np.median(by_side["ours int8"])) for name, values in by_side.items()}
        for workload, by_side in seconds.items()
    }


def main() -> None:
    options = arguments("engine", __doc__)
    workloads = QUICK if options.quick else WORKLOADS
    engines, roofline = sides(), Roofline(threads=THREADS)
    seconds: dict[str, dict[str, list[float]]] = {}
    ceiling: list[float] = []
    for workload, (lengths, rounds) in workloads.items():
        token_ids = texts(lengths)
        calls = {name: lambda embed=embed: embed(token_ids) for name, embed in engines.items()}  # noqa: B023
        seconds[workload] = interleaved(calls, rounds=rounds)
        ceiling += [roofline() for _ in range(3)]
    save(options.json, {**summary(workloads, seconds, ceiling), "weights": "random; speed does not depend on them"})


def summary(
    workloads: Workloads, seconds: Mapping[str, Mapping[str, list[float]]], ceiling: list[float]
) -> dict[str, Any]:
    """Tokens a second by workload and side, ratios, and the share of the roofline."""
    rates = {
        workload: {
            name: spread([sum(workloads[workload][0]) / value for value in values]) for name, values in by_side.items()
        }
        for workload, by_side in seconds.items()
    }
    batch = rates["texts of 128 tokens"]["ours int8"]["median"]
    return {
        "tokens": {workload: sum(lengths) for workload, (lengths, _) in workloads.items()},
        "tokens_per_second": rates,
        "times_faster_than": ratios(seconds),
        "one_short_text_ms": {
            name: spread([1000 * v for v in values]) for name, values in seconds["one text of 16 tokens"].items()
        },
        "roofline_tokens_per_second": spread(ceiling),
        "share_of_roofline_at_128": batch / spread(ceiling)["median"],
    }


if __name__ == "__main__":
    main()
