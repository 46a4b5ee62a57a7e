"""benchmarks/results/*.json -> the pictures that README shows.

python -m benchmarks.plots
"""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.tables import RESULTS, results

COLOURS = ("#1b7f5c", "#55a387", "#8fc7b1", "#4a6fa5", "#9db4d0", "#c98b3c")  # a shade a side, a colour a library


def engine_plot() -> None:
    """Tokens a second by workload and side."""
    figures = results("engine")
    rates = figures["tokens_per_second"]
    figure, axes = pyplot.subplots(1, len(rates), figsize=(13, 3.6))
    for axis, (workload, by_side) in zip(axes, rates.items(), strict=True):
        values = [side["median"] for side in by_side.values()]
        axis.barh(list(by_side), values, color=COLOURS[: len(by_side)])
        axis.set_title(workload, fontsize=9)
        axis.invert_yaxis()
        axis.tick_params(labelsize=8, labelleft=axis is axes[0])
        for row, value in enumerate(values):
            axis.text(value, row, f" {value:,.0f}", va="center", fontsize=8)
        axis.set_xlim(0, max(values) * 1.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"Tokens a second, EmbeddingGemma-300m's architecture, 2 threads of {figures['machine']['cpu']}", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(RESULTS / "engine.png", dpi=110)


def serving_plot() -> None:
    """Latency and throughput by concurrency."""
    figures = results("serving")
    http = figures["http"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2))
    for percentile, colour in zip((50, 95, 99), COLOURS, strict=False):
        left.plot(
            list(http), [row[f"p{percentile}_ms"] for row in http.values()], "o-", color=colour, label=f"p{percentile}"
        )
    left.set(xlabel="callers", ylabel="ms", title="Latency of a text")
    left.legend(frameon=False)
    right.bar(list(http), [row["tokens_per_second"] for row in http.values()], color=COLOURS[0], width=0.5)
    right.axhline(figures["bare_engine"]["tokens_per_second"], color=COLOURS[-1], label="bare engine")
    right.set(xlabel="callers", ylabel="tokens/s", title="Throughput over HTTP")
    right.legend(frameon=False, loc="lower right")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(RESULTS / "serving.png", dpi=110)


if __name__ == "__main__":
    engine_plot()
    serving_plot()
