"""Writes a model file, which embedder/weights.py reads: the header, then each tensor."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from tqdm import tqdm

from embedder.engine_config import EngineConfig
from embedder.prepare.weight import Declared, Weight
from embedder.profile import LAYOUT
from embedder.weights import ALIGNMENT, DTYPES, FORMAT


def write(path: Path, config: EngineConfig, weights: Sequence[Weight]) -> None:
    """Write `weights` in the precision of `config`, with at most one matrix in memory."""
    precision = config.precision
    declared = [tensor for weight in weights for tensor in weight.declared(precision)]
    with path.open("wb") as file:
        file.write(header(config, declared))
        for weight in tqdm(weights, desc=f"write {precision}", unit="matrix", leave=False):
            end = file.tell() + sum(map(_n_bytes, weight.declared(precision)))
            for array in weight.arrays(precision):
                little_endian = array.dtype.newbyteorder("<")
                file.write(np.ascontiguousarray(array, little_endian).data)
            assert file.tell() == end, weight


def header(config: EngineConfig, declared: Sequence[Declared]) -> bytes:
    """The bytes before the tensors, a multiple of 64."""
    metadata = {"format": FORMAT, "layout": str(LAYOUT), "config": config.to_json()}
    entries: dict[str, object] = {"__metadata__": metadata}
    begin = 0
    for tensor in declared:
        assert begin % ALIGNMENT == 0, tensor
        end = begin + _n_bytes(tensor)
        offsets = [begin, end]
        shape = list(tensor.shape)
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": offsets}
        begin = end
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _n_bytes(tensor: Declared) -> int:
    return prod(tensor.shape) * DTYPES[tensor.dtype]
