"""The engine as a static ARM64 program that qemu runs, so that no ARM machine is needed.

The kernels are the object files of the shipped library. Everything else is compiled for a C library
that can be linked statically.
"""

import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.native import build
from embedder.native_engine import native_config
from embedder.tokenized_text import TokenIds
from embedder.weights import DTYPES, Tensor, Weights

NAME = "linux-aarch64"
SOURCE = Path(__file__).with_suffix(".cpp")
EMULATOR = "qemu-aarch64-static"
_TRIPLE = "aarch64-linux-musl"

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Texts to embed with one model, by each of the kernels."""

    model: Path
    token_ids: Sequence[TokenIds]
    kernels: Sequence[str]
    threads: int = 1


def make() -> Path:
    """Compile the program if necessary; returns its path. Raises build.BuildError."""
    shipped = build.compiler_for(NAME)
    static = replace(shipped, command=tuple(map(_static, shipped.command)))
    units = [unit for unit in build.units(NAME, shipped) if unit.source == build.KERNEL_SOURCE]
    for unit in build.units(NAME, static, variant="static"):
        if unit.source != build.KERNEL_SOURCE:
            units.append(unit)
    objects = build.compile_units(units, f"engine for {NAME}, static")
    program = build.OBJECTS / NAME / "static" / SOURCE.stem
    newest = max(path.stat().st_mtime for path in (SOURCE, *objects))
    if not program.exists() or program.stat().st_mtime < newest:
        # Without the C++ library, which zig would compile first: minutes.
        flags = [*build.FLAGS, "-O1", f"-I{build.SOURCES}", "-static", "-nostdlib++"]
        options = [*flags, "-o", str(program)]
        subprocess.run([*static.command, *options, str(SOURCE), *map(str, objects)], check=True)
    return program


def _static(word: str) -> str:
    """The target with musl instead of glibc, which has no static library here."""
    return _TRIPLE if word == build.TARGETS[NAME].triple else word


def emulator(cpu: str, *options: str) -> list[str]:
    """The command of qemu for one CPU; qemu 7.2 computes int8 wrongly on its default CPU.

    Raises:
        SystemExit: qemu is missing.
    """
    if not (path := shutil.which(EMULATOR)):
        sys.exit(f"{EMULATOR} is missing. On Debian or Ubuntu: apt-get install qemu-user-static")
    return [path, "-cpu", cpu, *options]


def kernels(cpu: str) -> tuple[str, ...]:
    """The kernels that the engine supports on a CPU, fastest first."""
    return tuple(_output(cpu).decode().split())


def run(cpu: str, directory: Path, cases: Sequence[Case]) -> list[dict[str, Vectors]]:
    """The vectors of each case by kernel: (n_texts, dimensions). Writes files to `directory`."""
    paths = [written(case, directory / f"{i}.case") for i, case in enumerate(cases)]
    values = np.frombuffer(_output(cpu, *paths), np.float32)
    found: list[dict[str, Vectors]] = []
    for case in cases:
        shape = len(case.token_ids), Weights(case.model).config.dimensions
        count = shape[0] * shape[1]
        found.append({})
        for kernel in case.kernels:
            found[-1][kernel] = values[:count].reshape(shape)
            values = values[count:]
    return found


def _output(cpu: str, *arguments: Path) -> bytes:
    command = [*emulator(cpu), str(make()), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{cpu}: status {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def written(case: Case, path: Path) -> Path:
    """Write a case to `path` in the format of arm_program.cpp, and return `path`."""
    weights = Weights(case.model)
    names = struct.pack("256s64s", str(case.model).encode(), " ".join(case.kernels).encode())
    counts = struct.pack("4i", case.threads, len(weights.tensors), len(case.token_ids), 0)
    starts = np.cumsum([0, *map(len, case.token_ids)], dtype=np.int64)
    ids = np.concatenate(case.token_ids).astype(np.int32)
    path.write_bytes(
        names + bytes(native_config(weights.config)) + counts
        + b"".join(map(_entry, weights.tensors)) + starts.tobytes() + ids.tobytes()
    )  # fmt: skip
    return path


def _entry(tensor: Tensor) -> bytes:
    dtype = list(DTYPES).index(tensor.dtype)  # in native_dtype's order
    return struct.pack("128sQQii", tensor.name.encode(), tensor.offset, tensor.n_bytes, dtype, 0)
