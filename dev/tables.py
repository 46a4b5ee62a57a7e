"""Tables of the documents from benchmarks/results/*.json; `make docs` inserts them."""

from embedder.prepare.report import HEADS
from lab.results import FAIRNESS, OURS, results


def engine_table() -> str:
    """Tokens per second by engine and workload, how many times faster ours is, and memory."""
    figures = results("engine")
    rates = figures["tokens_per_second"]
    factors = figures["times_faster_than"]
    head = ["Tokens/s", *rates, "Memory MB"]
    lines = [_row(head), "| --- |" + " ---: |" * (len(head) - 1)]
    for side, memory in figures["pss_mb"].items():
        cells = [
            f"{rates[workload][side]['median']:,.0f}"
            + ("" if side == OURS else f" ({factors[workload][side]['median']:.1f}×)")
            for workload in rates
        ]
        lines.append(_row([side, *cells, f"{memory:,.0f}"]))
    shares = [f"{share['median']:.0%}" for share in figures["share_of_bound"].values()]
    lines.append(_row([f"{OURS}, share of the machine's bound", *shares, ""]))
    return "\n".join(lines) + "\n"


def summary_table() -> str:
    """The engines in short: two workloads, memory, and the quality of int8 against fp32."""
    figures = results("engine")
    quality = results("quality")["starter"]["int8"]["to_original"]
    rates = figures["tokens_per_second"]
    columns = ["1 × 16", "mixed 8–512"]
    close_to_fp32 = {OURS: f"{quality['mean_cosine']:.4f} / {quality['rank_correlation']:.4f}"}
    heads = ["", "Tokens/s, query", "Tokens/s, mixed", "Memory MB", "Mean cosine / Spearman"]
    lines = [_row(heads), "| --- |" + " ---: |" * 4]
    for side, memory in figures["pss_mb"].items():
        cells = [f"{rates[column][side]['median']:,.0f}" for column in columns]
        lines.append(_row([side, *cells, f"{memory:,.0f}", close_to_fp32.get(side, "")]))
    return "\n".join(lines) + "\n"


def quality_table() -> str:
    """How close the starter model is to its original, by precision and encoding."""
    heads = [
        "Weights", "Output", "Mean cosine", "1st percentile", "Least", "Rank correlation",
        "Recall@10", "Recall@10 of fp32",
    ]  # fmt: skip
    lines = [_row(heads), "| --- | --- |" + " ---: |" * (len(heads) - 2)]
    for precision, found in results("quality")["starter"].items():
        for output in found["outputs"]:
            figures = [output["agreement"][name] for name in HEADS]
            cells = [f"{figure:.5f}" for figure in (*figures, output["recall_of_original"])]
            lines.append(_row([precision, output["encoding"], *cells]))
    return "\n".join(lines) + "\n"


def contention_table() -> str:
    """Tokens per second beside other processes, as a share of the rate on a quiet machine."""
    shares = results("contention")["share_of_quiet"]
    sides = list(next(iter(shares.values())))
    lines = [_row(["Of the quiet rate", *sides]), "| --- |" + " ---: |" * len(sides)]
    for condition, by_side in shares.items():
        lines.append(_row([condition, *(f"{by_side[side]['median']:.0%}" for side in sides)]))
    return "\n".join(lines) + "\n"


def serving_table() -> str:
    """Latency and throughput over HTTP by number of callers."""
    figures = results("serving")
    head = ["Callers", "p50 ms", "p95 ms", "p99 ms", "texts/s", "tokens/s", "CPU ms/request"]
    lines = [_row(head), "| ---: |" + " ---: |" * (len(head) - 1)]
    for callers, row in figures["http"].items():
        cells = [f"{row[f'p{share}_ms']:,.0f}" for share in (50, 95, 99)]
        cells += [f"{row['texts_per_second']:,.1f}", f"{row['tokens_per_second']:,.0f}"]
        lines.append(_row([callers, *cells, f"{row['cpu_ms_per_request']:,.0f}"]))
    return "\n".join(lines) + "\n"


def fairness_table() -> str:
    """The latency of one user's query while other users send batches."""
    head = ["p50 / p95 ms of a query", "alone", *FAIRNESS, "bound"]
    lines = [_row(head), "| --- |" + " ---: |" * (len(head) - 1)]
    for model, figures in results("fairness")["models"].items():
        cells = [
            f"{figures[one]['p50_ms']:,.0f} / {figures[one]['p95_ms']:,.0f}"
            for one in ("alone", *FAIRNESS)
        ]
        lines.append(_row([model, *cells, f"{figures['bound_ms']:,.0f}"]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
