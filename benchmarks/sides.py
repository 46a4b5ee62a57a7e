"""Engines to compare, each in a process of its own as its users run it.

The side whose turn it is not is stopped (SIGSTOP): no pool that spins while idle disturbs another.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import Ids, Matrix
from lab.models import HOME, ROOT
from lab.results import (
    AVX2,
    AVX_VNNI,
    FP32,
    LITERT,
    LLAMA_CPP,
    ONNX_RUNTIME,
    OPENVINO,
    OPENVINO_AVX2,
    OPENVINO_AVX_VNNI,
    OURS,
    V0_1,
)

THREADS = 2
OTHERS_PYTHON = os.environ.get("BENCH_PYTHON", str(ROOT / ".venv-bench" / "bin" / "python"))


@dataclass(frozen=True)
class Kind:
    """How a side is made: a module of benchmarks.peers, and what to load it with."""

    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """Others ask for other versions of packages than the service runs on."""
        return sys.executable if self.module == "ours" else OTHERS_PYTHON


SIDES: dict[str, Kind] = {
    OURS: Kind("ours"),
    "ours fp32": Kind("ours", {"precision": "fp32"}),
    AVX2: Kind("ours", {"kernel": "avx2"}),
    AVX_VNNI: Kind("ours", {"kernel": "avxvnni"}),
    V0_1: Kind("v0_1"),
    LITERT: Kind("litert"),
    OPENVINO: Kind("openvino"),
    OPENVINO_AVX2: Kind("openvino", {"group": "0"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    OPENVINO_AVX_VNNI: Kind("openvino", environment={"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}),
    ONNX_RUNTIME: Kind("onnx_runtime"),
    LLAMA_CPP: Kind("llama_cpp"),
    "sentence-transformers bf16": Kind("sentence_transformers", {"dtype": "bfloat16"}),
    FP32: Kind("sentence_transformers"),
}


class Unavailable(Exception):
    """A side that cannot run here; its message says why."""


class Side:
    """One engine, loaded and stopped until it is called.

    Raises Unavailable.
    """

    def __init__(self, name: str) -> None:
        kind = SIDES[name]
        command = [kind.python, "-m", "benchmarks.worker", name]
        environment = {**os.environ, **kind.environment}
        _run([*command, "prepare"], environment)
        self._connection, theirs = multiprocessing.Pipe()
        self._log = HOME / f"{name}.log"
        with theirs, self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())], cwd=ROOT, env=environment,
                pass_fds=[theirs.fileno()], stdout=log, stderr=log,
            )  # fmt: skip
        try:
            self.version: str = self._connection.recv()
        except EOFError:
            raise Unavailable(f"it ended while it was loaded, see {self._log}") from None
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __call__(self, token_ids: Sequence[Ids], calls: int) -> tuple[list[float], Matrix]:
        """Seconds of each of `calls` calls, after one that is not counted; and the vectors."""
        self._process.send_signal(signal.SIGCONT)
        self._connection.send((token_ids, calls))
        seconds, vectors = self._connection.recv()
        self._stop()
        return seconds, vectors

    def pss_mb(self) -> float:
        """Resident megabytes of its process, a page that others share counted in part."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024 / 1e6

    def close(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it has ended already
            self._connection.send(None)
        self._process.wait()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)


@contextmanager
def loaded(names: Sequence[str]) -> Iterator[tuple[dict[str, Side], dict[str, str]]]:
    """The sides of those names that can run here, and of the others why they cannot."""
    sides: dict[str, Side] = {}
    missing: dict[str, str] = {}
    for name in names:
        print(f"loading {name}", file=sys.stderr, flush=True)
        try:
            sides[name] = Side(name)
        except Unavailable as error:
            missing[name] = str(error)
    try:
        yield sides, missing
    finally:
        for side in sides.values():
            side.close()


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        )
    except OSError as error:
        raise Unavailable(f"{error}: `make bench` installs it") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"status {error.returncode}"]
        raise Unavailable(last[0]) from error
