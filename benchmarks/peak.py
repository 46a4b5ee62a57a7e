"""Measure the peak of the machine: int8 products in registers, and memory bandwidth.

    python -m benchmarks.peak

The bound of a workload is the slower of its products at the peak and one read of the weights. Only
the products of EmbeddingGemma's layers count, not attention, norms and the Dense layers after them.
"""

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from embedder.native.build import HERE, compiler_for
from lab.models import HOME

SOURCE = Path(__file__).with_name("peak.cpp")
FLAGS = ("-O3", "-std=c++17", "-fno-exceptions", "-fno-rtti", "-nostdlib++", "-pthread")

# (K, N) of the products of one EmbeddingGemma layer: q|k|v, o, gate|up, down.
PRODUCTS = ((768, 1280), (768, 768), (768, 2304), (1152, 768))
LAYERS = 24
WEIGHTS = LAYERS * sum(k * n for k, n in PRODUCTS)  # 101.4 MB in int8
OPERATIONS = 2 * WEIGHTS  # 202.9 million per token


@dataclass(frozen=True)
class Peak:
    """One measurement. `gops` is `gops_per_core` times the threads."""

    instruction: str
    gops_per_core: float
    gops: float
    gb_per_second: float

    def bound(self, n_tokens: int) -> float:
        """The least seconds that `n_tokens` take."""
        return max(OPERATIONS * n_tokens / self.gops, WEIGHTS / self.gb_per_second) / 1e9


@cache
def program() -> Path:
    """Compile peak.cpp if necessary, with the compiler of the engine; returns the program."""
    target = HOME / "peak"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        HOME.mkdir(parents=True, exist_ok=True)
        command = [*compiler_for(HERE).command, *FLAGS, "-o", str(target), str(SOURCE)]
        subprocess.run(command, check=True)
    return target


def measure(threads: int) -> Peak:
    """Measure for half a second."""
    line = subprocess.run([program(), str(threads)], check=True, capture_output=True, text=True)
    return Peak(**json.loads(line.stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(measure(len(os.sched_getaffinity(0)))), indent=1))
