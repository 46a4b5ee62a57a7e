"""The packed forward pass in ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from embedder.errors import ModelNotFoundError, VectorCountError
from embedder.packing import layout, pack
from embedder.postprocess import Vectors
from embedder.tokens import TokenIds


class OnnxEngine:
    """A prepared graph: packs of token ids in, one L2-normalised vector a text out."""

    def __init__(self, path: Path, *, num_threads: int, batch_tokens: int, window: int | None = None) -> None:
        if not path.is_file():
            raise ModelNotFoundError(path)
        self._session = ort.InferenceSession(
            str(path), session_options(num_threads), providers=["CPUExecutionProvider"]
        )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._batch_tokens = batch_tokens
        self._window = window

    def embed(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """(n_texts, dimensions) float32 in the order given; one forward pass a pack of `batch_tokens`."""
        rows: list[Vectors] = [np.empty(0, np.float32)] * len(token_ids)
        for indices in pack([len(ids) for ids in token_ids], budget=self._batch_tokens):
            for index, vector in zip(indices, self._forward([token_ids[i] for i in indices]), strict=True):
                rows[index] = vector
        return np.stack(rows)

    def _forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        inputs = layout(token_ids, window=self._window).inputs()
        # A pack over the budget is one long text: give its memory back, or the peak stays for ever.
        # At 2,048 tokens of EmbeddingGemma that is 250 MB; it costs a small pack nothing it would notice.
        options = SHRINK if sum(map(len, token_ids)) > self._batch_tokens else None
        vectors: Vectors = self._session.run(None, {name: inputs[name] for name in self._inputs}, options)[0]
        if len(vectors) != len(token_ids):
            raise VectorCountError(f"{len(vectors)} vectors for {len(token_ids)} texts")
        return vectors


def _shrink() -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


SHRINK = _shrink()


def session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it plans for shapes that come again; every pack has its own
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI, x86 multiplies u8 by s8 into 16 bits that overflow; this keeps them exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options
