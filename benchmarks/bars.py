"""What the figures should be, against what they are.

    python -m benchmarks.bars

Reads benchmarks/results and ends with status 1 when a bar is missed. The engine's ratios are those of one run.
"""

import sys
from dataclasses import dataclass

from benchmarks.bulk import BIT_EQUAL
from benchmarks.tables import results

FASTER = "times_faster_than"
SHARE_OF_BARE_ENGINE = ("throughput", "share_of_bare_engine")
ENGINE_BUSY = ("throughput", "engine_busy", "median")
FP32, BF16 = "sentence-transformers fp32", "sentence-transformers bf16"


@dataclass(frozen=True)
class Bar:
    """One figure of one benchmark's results and the least, or the most, that it should be."""

    meaning: str
    benchmark: str
    place: tuple[str, ...]
    least: float = -float("inf")
    most: float = float("inf")

    @property
    def figure(self) -> float:
        found = results(self.benchmark)
        for key in self.place:
            found = found[key]
        return float(found)  # type: ignore[arg-type]

    @property
    def met(self) -> bool:
        return self.least <= self.figure <= self.most

    def line(self) -> str:
        bound = f"at most {self.most:g}" if self.most < float("inf") else f"at least {self.least:g}"
        return f"| {self.meaning} | {bound} | {self.figure:.7g} | {'met' if self.met else '**missed**'} |"


BARS = (
    Bar("one text of 16 tokens, times faster than fp32", "engine", (FASTER, "one text of 16 tokens", FP32), 5.5),
    Bar("texts of 128 tokens, times faster than bf16", "engine", (FASTER, "texts of 128 tokens", BF16), 1.9),
    Bar("mixed 8-512 tokens, times faster than fp32", "engine", (FASTER, "mixed 8-512 tokens", FP32), 3.5),
    Bar("texts of 2,048 tokens, times faster than fp32", "engine", (FASTER, "texts of 2,048 tokens", FP32), 3),
    Bar("share of the int8 products' roofline at 128 tokens", "engine", ("share_of_roofline_at_128",), 0.65),
    Bar("share of the bare engine's tokens/s, 32 callers", "serving", ("share_of_bare_engine_at_32",), 0.85),
    Bar("ms that HTTP adds to the p50 of one caller", "serving", ("added_p50_ms_at_1",), most=3),
    Bar("MB of all processes at their peaks", "serving", ("rss_mb", "peak"), most=700),
    Bar("seconds from start to ready", "serving", ("ready_after_s",), most=10),
    Bar("p95 beside bulk load, in (3 idle p50 + one pack)", "fairness", ("share_of_bound",), most=1),
    Bar("least cosine alone and in a batch, int8", "quality", ("least_cosine", "int8"), 0.9995),
    Bar("least cosine alone and in a batch, fp32", "quality", ("least_cosine", "fp32"), 0.999999),
    Bar("mean cosine of int8 and fp32, real weights", "quality", ("starter_int8_against_fp32", "mean_cosine"), 0.99),
    Bar("Spearman of pairs, int8 and fp32", "quality", ("starter_int8_against_fp32", "spearman_of_pairs"), 0.995),
    Bar("a job's share of the bare engine's tokens/s", "bulk", SHARE_OF_BARE_ENGINE, 0.9),
    Bar("share of a job's time that its engine is busy", "bulk", ENGINE_BUSY, 0.95),
    Bar("seconds of a job of four rows", "bulk", ("few_rows", "seconds", "median"), most=3),
    Bar("times the memory for 20 times the input", "bulk", ("memory", "times"), most=1.3),
    Bar("a job killed 10 times is bit-equal to a calm one", "bulk", ("kills", "within_bar", BIT_EQUAL), 1),
)


def bars_table() -> str:
    return "\n".join(["| Bar | Should be | Is | |", "| --- | ---: | ---: | --- |", *(bar.line() for bar in BARS), ""])


if __name__ == "__main__":
    print(bars_table())
    sys.exit(0 if all(bar.met for bar in BARS) else 1)
