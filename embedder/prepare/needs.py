"""What preparing a model takes: figures of all-MiniLM-L6-v2 and EmbeddingGemma, for sizes between."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from embedder.prepare.source import Source

GB = 1_000_000_000
# Free bytes by bytes of the source: the prepared model lies in a temporary directory and then in
# the store, and the source may have 16-bit weights.
DISK: Mapping[str, int] = {"int8": 1, "fp16": 2, "fp32": 4}
# Measured peaks: 0.78 GB (int8) and 0.62 (fp32) of a source of 0.09 GB, 2.31 and 1.76 of 1.2 GB.
# Real tokenizers are larger than that of the second.
MEMORY: Mapping[str, tuple[float, float]] = {
    "int8": (0.8, 1.5),
    "fp16": (0.7, 1.1),
    "fp32": (0.7, 1.1),
}
# CPU seconds on one core: 13 and 55 (int8).
SECONDS: tuple[float, float] = (10.0, 40.0)
SLOW = 2  # CPUs that are slower than the one measured


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
    """What it takes to prepare `source`, rounded up."""
    size = source.n_bytes
    base, slope = MEMORY[quantization]
    start, per_gb = SECONDS
    return Needs(
        memory=round(base * GB + slope * size),
        disk=DISK[quantization] * size,
        minutes=ceil(SLOW * (start + per_gb * size / GB) / 60),
    )


def _gb(n_bytes: int) -> str:
    return f"{ceil(n_bytes / GB * 10) / 10:.1f} GB"
