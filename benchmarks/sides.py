"""Engines to compare, each in its own process.

A side is stopped with SIGSTOP except in its turns, since the thread pools of some spin while idle.
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
    FP32_2,
    LITERT,
    LLAMA_CPP,
    ONNX_RUNTIME,
    OPENVINO,
    OPENVINO_AVX2,
    OPENVINO_AVX_VNNI,
    OURS,
    OURS_2,
    OURS_2_FP32,
    V0_1,
)

THREADS = 2
OTHERS_PYTHON = os.environ.get("BENCH_PYTHON", str(ROOT / ".venv-bench" / "bin" / "python"))


@dataclass(frozen=True)
class SideSpec:
    """How a side is made: a module of benchmarks.peers, its options and environment."""

    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter; others need other versions of packages than the service."""
        own = self.module == "ours" or "model" in self.options
        return sys.executable if own else OTHERS_PYTHON


SECOND = {"model": "embeddinggemma2"}
SIDES: dict[str, SideSpec] = {
    OURS: SideSpec("ours"),
    "ours fp32": SideSpec("ours", {"precision": "fp32"}),
    AVX2: SideSpec("ours", {"kernel": "avx2"}),
    AVX_VNNI: SideSpec("ours", {"kernel": "avxvnni"}),
    V0_1: SideSpec("v0_1"),
    LITERT: SideSpec("litert"),
    OPENVINO: SideSpec("openvino"),
    OPENVINO_AVX2: SideSpec("openvino", {"group": "0"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    OPENVINO_AVX_VNNI: SideSpec("openvino", environment={"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}),
    ONNX_RUNTIME: SideSpec("onnx_runtime"),
    LLAMA_CPP: SideSpec("llama_cpp"),
    "sentence-transformers bf16": SideSpec("sentence_transformers", {"dtype": "bfloat16"}),
    FP32: SideSpec("sentence_transformers"),
    OURS_2: SideSpec("ours", SECOND),
    OURS_2_FP32: SideSpec("ours", {**SECOND, "precision": "fp32"}),
    FP32_2: SideSpec("sentence_transformers", SECOND),
}


class Unavailable(Exception):
    """A side cannot run here; the message says why."""


class Side:
    """One engine in a process, loaded, and stopped until it is called.

    Raises:
        Unavailable: it cannot run here.
    """

    def __init__(self, name: str) -> None:
        spec = SIDES[name]
        command = [spec.python, "-m", "benchmarks.worker", name]
        environment = {**os.environ, **spec.environment}
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
            raise Unavailable(f"it ended while loading, see {self._log}") from None
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __call__(self, token_ids: Sequence[Ids], calls: int) -> tuple[list[float], Matrix]:
        """Embed texts `calls` times, after one call that is not counted.

        Returns the seconds of each call, and the vectors: (n_texts, dimensions).
        """
        self._process.send_signal(signal.SIGCONT)
        self._connection.send((token_ids, calls))
        seconds, vectors = self._connection.recv()
        self._stop()
        return seconds, vectors

    def pss_mb(self) -> float:
        """Megabytes (PSS) of the process; shared pages are divided."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024 / 1e6

    def close(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # the process has already ended
            self._connection.send(None)
        self._process.wait()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)


@contextmanager
def loaded(names: Sequence[str]) -> Iterator[tuple[dict[str, Side], dict[str, str]]]:
    """Load sides; yields those that can run here, and the reasons why others cannot, by name."""
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
