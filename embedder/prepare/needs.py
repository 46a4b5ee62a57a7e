"""What preparing a model needs: interpolated between all-MiniLM-L6-v2 and EmbeddingGemma."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from embedder.prepare.source import Source

GB = 1_000_000_000
# Free bytes per byte of the source: the prepared model is written to a temporary directory and
# copied to the store, and the source may have 16-bit weights.
DISK: Mapping[str, int] = {"int8": 1, "fp16": 2, "fp32": 4}
# GB, and GB per GB of the source with weights of 32 bits. Measured peaks: 0.78 GB (int8), 0.62 GB
# (fp32) for a source of 0.09 GB; 2.31 and 1.76 GB for 1.2 GB, whose tokenizer was smaller than real
# ones.
MEMORY: Mapping[str, tuple[float, float]] = {
    "int8": (0.8, 1.5),
    "fp16": (0.7, 1.1),
    "fp32": (0.7, 1.1),
}
# CPU seconds, and per GB of the source. Measured on one core with 57 texts: 13 and 55 (int8). The
# quality check adds some 14,000 tokens in fp32: 0.3 TFLOP and 3, at 70 GFLOPS of one core.
SECONDS: tuple[float, float] = (14.0, 70.0)
SLOW = 2  # factor for CPUs that are slower than the one measured


@dataclass(frozen=True)
class Needs:
    """`memory` and `disk` in bytes, `minutes` on one CPU or two."""

    memory: int
    disk: int
    minutes: int

    def __str__(self) -> str:
        minutes = f"{self.minutes} minute{'s' * (self.minutes > 1)}"
        return f"about {minutes}, {_gb(self.memory)} of memory and {_gb(self.disk)} of free disk"


def needs_of(source: Source, quantization: str) -> Needs:
    """What preparing `source` needs, rounded up."""
    size = source.n_bytes_float32
    base, slope = MEMORY[quantization]
    start, per_gb = SECONDS
    return Needs(
        memory=round(base * GB + slope * size),
        disk=DISK[quantization] * source.n_bytes,
        minutes=ceil(SLOW * (start + per_gb * size / GB) / 60),
    )


def _gb(n_bytes: int) -> str:
    return f"{ceil(n_bytes / GB * 10) / 10:.1f} GB"
