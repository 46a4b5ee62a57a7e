"""Engines to compare, each in a process of its own as its users run it: no pool spins beside another's."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.tables import OURS
from embedder.tokens import TokenIds

THREADS = 2
PAUSE = 0.05  # seconds before a call, until the pools of the side before have gone to sleep


def _ours(precision: str, **options: Any) -> Callable[..., Any]:
    from benchmarks.models import prepared, random_embeddinggemma
    from embedder.model import EmbeddingModel

    directory = prepared(str(random_embeddinggemma()), precision)
    return EmbeddingModel.load(directory, num_threads=THREADS, **options).engine.embed


def _sentence_transformers(dtype: str) -> Callable[..., Any]:
    import torch

    from benchmarks.models import random_embeddinggemma
    from benchmarks.peers import sentence_transformers

    return sentence_transformers(random_embeddinggemma(), dtype=getattr(torch, dtype), threads=THREADS)


def _stock_int8() -> Callable[..., Any]:
    from benchmarks.models import random_embeddinggemma
    from benchmarks.peers import stock_int8

    return stock_int8(random_embeddinggemma(), threads=THREADS)


def _roofline() -> Callable[..., Any]:
    from benchmarks.roofline import Roofline

    products = Roofline(threads=THREADS)
    return lambda _: products()


ROOFLINE = "int8 products alone"
LOADERS: dict[str, Callable[[], Callable[..., Any]]] = {
    OURS: lambda: _ours("int8"),  # packs of 256 tokens, as the service runs it: a query waits for no longer one
    "ours int8, MAX_BATCH_TOKENS=1024": lambda: _ours("int8", batch_tokens=1024),
    "ours fp32": lambda: _ours("fp32"),
    "sentence-transformers fp32": lambda: _sentence_transformers("float32"),
    "sentence-transformers bf16": lambda: _sentence_transformers("bfloat16"),
    "ONNX Runtime dynamic int8": _stock_int8,
    ROOFLINE: _roofline,
}


def _work(name: str, connection: Connection) -> None:
    embed = LOADERS[name]()
    connection.send(None)
    for token_ids in iter(connection.recv, None):
        started = time.perf_counter()
        embed(token_ids)
        connection.send(time.perf_counter() - started)


class Side:
    """One engine, loaded and waiting; call it with token ids for the seconds they took."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(name, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()

    def __call__(self, token_ids: Sequence[TokenIds]) -> float:
        time.sleep(PAUSE)
        self._connection.send(token_ids)
        seconds: float = self._connection.recv()
        return seconds

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()
