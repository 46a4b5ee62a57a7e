"""Check the results of benchmarks against targets.

    python -m benchmarks.targets

Reads benchmarks/results and exits with status 1 when a target is missed or was not measured. Ratios
are within one run.
"""

import sys
from dataclasses import dataclass

from benchmarks.bulk import BIT_EQUAL
from benchmarks.contention import EVENT_LOOP, QUOTA, SPINNERS
from benchmarks.workloads import AT_128, MIXED, ONE_16, ONE_512
from lab.results import (
    FAIRNESS,
    FP32,
    LITERT,
    LLAMA_CPP,
    ONNX_RUNTIME,
    OPENVINO,
    OPENVINO_AVX2,
    OURS,
    OURS_2,
    OURS_2_FP32,
    V0_1,
    results,
)

SHARE_OF_BARE_ENGINE = ("throughput", "share_of_bare_engine")
ENGINE_BUSY = ("throughput", "engine_busy", "median")
STARTER = ("starter", "int8", "to_original")
LONG_OF_SHORT = "rate_at_2048_of_rate_at_128"
PEERS = (LLAMA_CPP, OPENVINO, LITERT, ONNX_RUNTIME)


@dataclass(frozen=True)
class Target:
    """One figure in the results of a benchmark, and the least or the most that it should be."""

    meaning: str
    benchmark: str
    place: tuple[str, ...]
    least: float = -float("inf")
    most: float = float("inf")

    @property
    def figure(self) -> float:
        """The measured value; NaN when it was not measured."""
        try:
            found = results(self.benchmark)
            for key in self.place:
                found = found[key]
        except (FileNotFoundError, KeyError):
            return float("nan")
        return float(found)  # type: ignore[arg-type]

    @property
    def met(self) -> bool:
        return self.least <= self.figure <= self.most

    def line(self) -> str:
        bound = f"at most {self.most:g}" if self.most < float("inf") else f"at least {self.least:g}"
        verdict = "met" if self.met else "**missed**"
        return f"| {self.meaning} | {bound} | {self.figure:.4g} | {verdict} |"


def faster(workload: str, side: str, times: float) -> Target:
    """Our int8 engine against another engine."""
    place = ("times_faster_than", workload, side, "median")
    return Target(f"{workload}, times faster than {side}", "engine", place, times)


def share_of_bound(workload: str, share: float) -> Target:
    """Our int8 engine against the limits of the machine."""
    place = ("share_of_bound", workload, "median")
    return Target(f"{workload}, share of the machine's bound", "engine", place, share)


def beside(condition: str, share: float) -> Target:
    """Our int8 engine while other processes use the machine."""
    place = ("share_of_quiet", condition, OURS, "median")
    return Target(f"{AT_128}, share of the quiet rate: {condition}", "contention", place, share)


def ahead(side: str) -> Target:
    """Our int8 engine against another engine, on the workload with the smallest ratio."""
    place = ("least_times_faster", side)
    return Target(f"any workload, times faster than {side}", "engine", place, 1)


def beside_batches(model: str, condition: str) -> Target:
    """A query while other users send batches."""
    meaning = f"{model}, p95 {condition}, in (3 idle p50 + one pack)"
    return Target(meaning, "fairness", ("models", model, condition, "share_of_bound"), most=1)


def of_second(
    meaning: str,
    place: tuple[str, ...],
    least: float = -float("inf"),
    *,
    most: float = float("inf"),
) -> Target:
    """EmbeddingGemma 2, on the service's own engine."""
    return Target(f"EmbeddingGemma 2, {meaning}", "embeddinggemma2", place, least, most)


ENGINE = (
    faster(ONE_16, V0_1, 2.7),
    faster(ONE_16, FP32, 17),
    share_of_bound(ONE_16, 1 / 1.5),
    share_of_bound(AT_128, 0.70),
    faster(AT_128, V0_1, 1.6),
    share_of_bound(MIXED, 0.65),
    share_of_bound(ONE_512, 0.60),
    Target("1 × 2,048, share of the rate at 8 × 128", "engine", (LONG_OF_SHORT,), 0.60),
    faster(MIXED, LLAMA_CPP, 6),
    *(faster(MIXED, side, 2) for side in (OPENVINO, LITERT, ONNX_RUNTIME)),
    *(ahead(side) for side in PEERS),
    beside(SPINNERS, 0.45),
    beside(QUOTA, 0.70),
    beside(EVENT_LOOP, 0.70),
    Target("AVX2, any workload, times OpenVINO", "avx2", ("least_times_faster", OPENVINO_AVX2), 1),
)
SERVICE = (
    Target("bare engine's tokens/s, 32 callers", "serving", ("share_of_bare_engine_at_32",), 0.90),
    Target(
        "ms over the engine's, one caller",
        "serving",
        ("one_caller", "EmbeddingGemma", "added_p50_ms"),
        most=1.5,
    ),
    Target(
        "the same, starter model", "serving", ("one_caller", "starter", "added_p50_ms"), most=1.5
    ),
    Target("MB (PSS) of all processes", "memory", ("pss_mb", "most"), most=350),
    Target("seconds from start to ready", "memory", ("ready_after_s", "median"), most=2.5),
    *(
        beside_batches(model, condition)
        for model in ("starter", "EmbeddingGemma")
        for condition in FAIRNESS
    ),
)
QUALITY = (
    Target(
        "int8 vectors that differ alone and in a batch", "quality", ("differing", "int8"), most=0
    ),
    Target(
        "fp32 vectors that differ alone and in a batch", "quality", ("differing", "fp32"), most=0
    ),
    Target("starter int8, mean cosine to fp32", "quality", (*STARTER, "mean_cosine"), 0.9995),
    Target("starter int8, least cosine to fp32", "quality", (*STARTER, "min_cosine"), 0.997),
    Target("starter int8, Spearman of pairs", "quality", (*STARTER, "rank_correlation"), 0.9995),
)
JOBS = (
    Target("a job's share of the bare engine's tokens/s", "bulk", SHARE_OF_BARE_ENGINE, 0.9),
    Target("share of a job's time that its engine is busy", "bulk", ENGINE_BUSY, 0.95),
    Target("seconds of a job of four rows", "bulk", ("few_rows", "seconds", "median"), most=3),
    Target("times the memory for 20 times the input", "bulk", ("memory", "times"), most=1.3),
    Target(
        "a job killed 10 times is bit-equal to an undisturbed one",
        "bulk",
        ("kills", "within_bar", BIT_EQUAL),
        1,
    ),
)


EMBEDDING_GEMMA2 = (
    of_second("8 × 128, share of the machine's bound", ("share_of_bound", AT_128, "median"), 0.65),
    of_second("1 × 2,048, share of the rate at 8 × 128", (LONG_OF_SHORT,), 0.50),
    of_second("int8, mean cosine", ("cosine_to_fp32", OURS_2, "mean"), 0.999),
    of_second("fp32, least cosine", ("cosine_to_fp32", OURS_2_FP32, "least"), 0.999999),
    of_second("seconds from start to ready", ("ready_after_s", "median"), most=2.5),
    of_second("MB (PSS) of all processes", ("service_pss_mb", "most"), most=350),
)


TARGETS = (*ENGINE, *SERVICE, *QUALITY, *JOBS, *EMBEDDING_GEMMA2)


def targets_table() -> str:
    head = ["| Target | Should be | Is | |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*head, *(target.line() for target in TARGETS), ""])


if __name__ == "__main__":
    print(targets_table())
    sys.exit(0 if all(target.met for target in TARGETS) else 1)
