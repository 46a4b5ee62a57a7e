"""What every benchmark shares: repeated measurement, the machine, and where results go."""

import argparse
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import RESULTS
from embedder.native_engine import kernels
from embedder.threads import available_threads


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    flags = next(
        (line.split(":")[1].split() for line in lines if line.startswith(("flags", "Features"))), []
    )
    known = ("avx2", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")
    return {
        "cpu": model,
        "instructions": [flag for flag in known if flag in flags],
        "threads": available_threads(),
        "python": platform.python_version(),
        "kernel": kernels()[0],
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def arguments(name: str, description: str | None) -> argparse.Namespace:
    """`--json PATH`, by default benchmarks/results/NAME.json; `--quick` for a short form."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def save(path: Path, figures: Mapping[str, Any]) -> None:
    """Write `figures` with the machine they were measured on, and show them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), **figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)
