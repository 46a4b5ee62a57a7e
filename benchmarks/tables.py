"""benchmarks/results/*.json -> the tables of the documents. `make docs` puts them in their places."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
OURS = "ours int8"


def results(name: str) -> dict[str, Any]:
    """What a benchmark wrote last."""
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def engine_table() -> str:
    """Tokens a second by side and workload, and how many times more our int8 makes of them."""
    figures = results("engine")
    rates, factors = figures["tokens_per_second"], figures["times_faster_than"]
    lines = ["| Tokens/s | " + " | ".join(rates) + " |", "| --- |" + " ---: |" * len(rates)]
    for side in next(iter(rates.values())):
        cells = [
            f"{rates[workload][side]['median']:,.0f}" + ("" if side == OURS else f" ({factors[workload][side]:.1f}×)")
            for workload in rates
        ]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def serving_table() -> str:
    """Latency and throughput over HTTP by callers at a time."""
    figures = results("serving")
    lines = [
        "| Callers | p50 ms | p95 ms | p99 ms | texts/s | tokens/s | CPU ms/request |",
        "| ---: |" + " ---: |" * 6,
    ]
    for callers, row in figures["http"].items():
        cells = [f"{row[f'p{share}_ms']:,.0f}" for share in (50, 95, 99)]
        cells += [f"{row['texts_per_second']:,.1f}", f"{row['tokens_per_second']:,.0f}"]
        lines.append(f"| {callers} | " + " | ".join([*cells, f"{row['cpu_ms_per_request']:,.0f}"]) + " |")
    return "\n".join(lines) + "\n"
