"""Measure the engine and the service on EmbeddingGemma 2's text encoder, with random weights.

    python -m benchmarks.embeddinggemma2 [--json PATH] [--quick]

Sides as in benchmarks.engine. Then the memory of the service, and the time of its start, as in
benchmarks.memory.
"""

import asyncio
import sys
from typing import Any

from benchmarks import memory, peak
from benchmarks.load import serving
from benchmarks.peak import WEIGHTS_2
from benchmarks.report import arguments, save
from benchmarks.rounds import Rounds, by_workload, measure
from benchmarks.sides import THREADS, loaded
from benchmarks.workloads import AT_128, ONE_2048, QUICK, WORKLOADS, Workload
from embedder.profile import TOKENIZER_FILE
from embedder.tokens import Tokenizer
from lab.figures import spread
from lab.models import prepared, with_real_tokenizer
from lab.results import FP32_2, OURS_2, OURS_2_FP32
from lab.texts import text_of

SIDES = (OURS_2, OURS_2_FP32, FP32_2)
ONE_8192 = Workload("1 × 8,192", [8192], rounds=3)


def of_engine(*, quick: bool) -> dict[str, Any]:
    """Speed by workload, and cosines to sentence-transformers in fp32 over all texts."""
    workloads = QUICK if quick else (*WORKLOADS, ONE_8192)
    with loaded(SIDES) as (sides, missing):
        measured = [measure(sides, one, lambda: peak.measure(THREADS)) for one in workloads]
        sizes = {name: side.pss_mb() for name, side in sides.items()}
    rates: dict[str, Any] = by_workload(measured, Rounds.rates)
    long, short = (rates[name][OURS_2]["median"] for name in (ONE_2048, AT_128))
    return {
        "tokens_per_second": rates,
        "times_faster_than": by_workload(measured, lambda rounds: rounds.times_faster(OURS_2)),
        "rate_at_2048_of_rate_at_128": long / short,
        "share_of_bound": by_workload(
            measured, lambda rounds: rounds.share_of_bound(OURS_2, weights=WEIGHTS_2)
        ),
        "cosine_to_fp32": {name: cosine(measured, name) for name in (OURS_2, OURS_2_FP32)},
        "pss_mb": sizes,
        "unavailable": missing,
    }


def cosine(measured: list[Rounds], side: str) -> dict[str, float]:
    """Mean and least cosine over the texts of all workloads."""
    found = [value for rounds in measured for value in rounds.cosines(FP32_2)[side].tolist()]
    return {"mean": sum(found) / len(found), "least": min(found)}


def of_service(*, quick: bool) -> dict[str, Any]:
    """The time until it is ready, and its memory."""
    model = with_real_tokenizer("embeddinggemma2")
    tokenizer = Tokenizer.from_file(prepared(str(model), "int8") / TOKENIZER_FILE)
    passage, longest = (text_of(tokens, tokenizer) for tokens in (128, 2048))
    del tokenizer
    memory.ready_after(model)  # the weights are in the page cache from now on
    starts = [memory.ready_after(model) for _ in range(1 if quick else memory.STARTS)]
    with serving(model) as server:
        found = asyncio.run(memory.measure(server, passage, longest))
    return {"ready_after_s": spread(starts), "service_pss_mb": found}


def main() -> int:
    options = arguments("embeddinggemma2", __doc__)
    figures = of_engine(quick=options.quick) | of_service(quick=options.quick)
    save(options.json, {**figures, "weights": "random, as good for speed"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
