"""What preparing a model is said to need."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from embedder.prepare.needs import needs_of
from embedder.prepare.source import Source

N_WEIGHTS = 1_000_000


def source(directory: Path, dtype: Any) -> Source:
    """A model of one matrix."""
    directory.mkdir()
    save_file({"weight": np.zeros(N_WEIGHTS, dtype)}, directory / "model.safetensors")
    (directory / "tokenizer.json").write_bytes(b" " * 1000)
    return Source("model", directory, "revision")


@pytest.mark.parametrize("quantization", ["int8", "fp16", "fp32"])
def test_weights_of_16_bits_need_the_memory_of_32(tmp_path: Path, quantization: str) -> None:
    half, full = (source(tmp_path / str(bits), f"f{bits // 8}") for bits in (16, 32))
    assert half.n_bytes_float32 == pytest.approx(full.n_bytes, rel=0.01)
    of_half, of_full = (needs_of(one, quantization) for one in (half, full))
    assert of_half.memory == of_full.memory
    assert of_half.disk < of_full.disk


def test_a_damaged_file_of_weights_counts_as_it_is(tmp_path: Path) -> None:
    found = source(tmp_path / "model", "f4")
    (found.directory / "model.safetensors").write_bytes(b"x" * 100)
    assert found.n_bytes_float32 == found.n_bytes
