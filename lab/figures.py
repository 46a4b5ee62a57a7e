"""Describe the machine of a measurement, and summarise its values."""

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedder.native_engine import kernels
from embedder.threads import available_threads


def machine() -> dict[str, Any]:
    """The CPU, its instruction sets, threads, Python and kernel, to be stored with figures."""
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
    """Median, minimum and maximum."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile `share`, from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
