"""Draw the plots of the documents from benchmarks/results/*.json.

python -m benchmarks.plots
"""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from lab.results import (
    FP32,
    LITERT,
    LLAMA_CPP,
    ONNX_RUNTIME,
    OPENVINO,
    OURS,
    RESULTS,
    V0_1,
    results,
)

# One colour per library, one shade per precision.
COLOURS = {
    OURS: "#1b7f5c",
    "ours fp32": "#8fc7b1",
    V0_1: "#55a387",
    LITERT: "#8d6a9f",
    OPENVINO: "#b5507a",
    ONNX_RUNTIME: "#c98b3c",
    LLAMA_CPP: "#7a7a7a",
    "sentence-transformers bf16": "#9db4d0",
    FP32: "#4a6fa5",
}


def engine_plot() -> None:
    """Plot tokens per second by workload and side."""
    figures = results("engine")
    rates = figures["tokens_per_second"]
    figure, axes = pyplot.subplots(1, len(rates), figsize=(14, 4))
    for axis, (workload, by_side) in zip(axes, rates.items(), strict=True):
        values = [side["median"] for side in by_side.values()]
        axis.barh(list(by_side), values, color=[COLOURS[side] for side in by_side])
        axis.set_title(workload, fontsize=9)
        axis.invert_yaxis()
        axis.tick_params(labelsize=8, labelleft=axis is axes[0])
        for row, value in enumerate(values):
            axis.text(value, row, f" {value:,.0f}", va="center", fontsize=8)
        axis.set_xlim(0, max(values) * 1.25)
        axis.spines[["top", "right"]].set_visible(False)
    cpu = figures["machine"]["cpu"]
    figure.suptitle(f"EmbeddingGemma-300m, tokens per second, 2 threads of {cpu}", fontsize=10)
    figure.tight_layout()
    figure.savefig(RESULTS / "engine.png", dpi=110)


def serving_plot() -> None:
    """Plot latency and throughput by concurrency."""
    figures = results("serving")
    http = figures["http"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2))
    for percentile, colour in zip((50, 95, 99), COLOURS.values(), strict=False):
        left.plot(
            list(http),
            [row[f"p{percentile}_ms"] for row in http.values()],
            "o-",
            color=colour,
            label=f"p{percentile}",
        )
    left.set(xlabel="callers", ylabel="ms", title="Latency per text")
    left.legend(frameon=False)
    right.bar(
        list(http),
        [row["tokens_per_second"] for row in http.values()],
        color=COLOURS[OURS],
        width=0.5,
    )
    right.axhline(
        figures["bare_engine"]["tokens_per_second"],
        color=COLOURS[ONNX_RUNTIME],
        label="bare engine",
    )
    right.set(xlabel="callers", ylabel="tokens/s", title="Throughput over HTTP")
    right.legend(frameon=False, loc="lower right")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(RESULTS / "serving.png", dpi=110)


if __name__ == "__main__":
    engine_plot()
    serving_plot()
