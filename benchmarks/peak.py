"""What the machine can do at most: int8 products from registers alone, and reading memory.

    python -m benchmarks.peak

A workload's bound is the slower of two: its products at the peak, or the weights read once. Of
EmbeddingGemma's layers: attention, the norms and the Dense layers behind the pooling do not count.
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
OPERATIONS = 2 * WEIGHTS  # 202.9 million for a token


@dataclass(frozen=True)
class Peak:
    """One measurement; `gops` is one core's times the threads."""

    instruction: str
    gops_per_core: float
    gops: float
    gb_per_second: float

    def bound(self, n_tokens: int) -> float:
        """Seconds that `n_tokens` take at least."""
        return max(OPERATIONS * n_tokens / self.gops, WEIGHTS / self.gb_per_second) / 1e9


@cache
def program() -> Path:
    """peak.cpp, compiled once by what compiles the engine."""
    target = HOME / "peak"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        HOME.mkdir(parents=True, exist_ok=True)
        command = [*compiler_for(HERE).command, *FLAGS, "-o", str(target), str(SOURCE)]
        subprocess.run(command, check=True)
    return target


def measure(threads: int) -> Peak:
    """Half a second's work."""
    line = subprocess.run([program(), str(threads)], check=True, capture_output=True, text=True)
    return Peak(**json.loads(line.stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(measure(len(os.sched_getaffinity(0)))), indent=1))
