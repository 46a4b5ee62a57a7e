"""Version 0.1 of this project, which used ONNX Runtime, with its code from git."""

import importlib
import os
import subprocess
import sys
from typing import Any

from benchmarks.peers import Embed
from lab.models import FULL_SIZE, HOME

PACKAGE = "onnxruntime"
COMMIT = "6c8b36d"
CODE = HOME / "v0.1"
MODEL = HOME / "v0.1-int8"
PACK_TOKENS = 1024  # MAX_BATCH_TOKENS of that version; its default of 256 is slower


def prepare() -> None:
    if not CODE.exists():
        archive = subprocess.run(
            ["git", "archive", COMMIT, "embedder"], check=True, capture_output=True
        )
        CODE.mkdir(parents=True)
        subprocess.run(["tar", "x", "-C", str(CODE)], input=archive.stdout, check=True)
    if MODEL.exists():
        return
    unfinished = MODEL.with_suffix(".unfinished")
    unfinished.mkdir(exist_ok=True)
    source = _its("embedder.prepare.source").locate(str(FULL_SIZE), None)
    build = _its("embedder.prepare.build").build
    build(source, unfinished, quantization="int8", backend="onnx").save(unfinished)
    unfinished.rename(MODEL)


def load(threads: int) -> Embed:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    model = _its("embedder.model").EmbeddingModel.load(
        MODEL, num_threads=threads, batch_tokens=PACK_TOKENS
    )
    embed: Embed = model.engine.embed
    return embed


def _its(module: str) -> Any:
    if str(CODE) not in sys.path:
        sys.path.insert(0, str(CODE))
    return importlib.import_module(module)
