"""Measure the peak of the machine: int8 products in registers, and memory bandwidth.

    python -m benchmarks.peak

The bound of a workload is the slower of its products at the peak and one read of the weights. Only
the products of a model's layers count, not attention, norms and the Dense layers after them.
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
# The same of EmbeddingGemma 2: q|k|v and o of 20 sliding and 4 full layers, gate|up, down, and
# three products of the embeddings per layer.
SLIDING, FULL = 512 * 2048 + 1024 * 512, 512 * 3072 + 2048 * 512
WEIGHTS_2 = 20 * SLIDING + 4 * FULL + LAYERS * (512 * 4096 + 2048 * 512 + 3 * 512 * 512)  # 136.3 MB


@dataclass(frozen=True)
class Peak:
    """One measurement. `gops` is `gops_per_core` times the threads."""

    instruction: str
    gops_per_core: float
    gops: float
    gb_per_second: float

    def bound(self, n_tokens: int, *, weights: int = WEIGHTS) -> float:
        """The least seconds that `n_tokens` take. Each weight is one product per token."""
        return max(2 * weights * n_tokens / self.gops, weights / self.gb_per_second) / 1e9


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
