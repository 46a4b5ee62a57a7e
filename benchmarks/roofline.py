"""What the int8 matrix products alone would take: ONNX Runtime's own DynamicQuantizeMatMul at M = 512."""

import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS = 512
# (K, N) of the products of one EmbeddingGemma layer: q|k|v, o, gate|up, down; 24 layers.
SHAPES = ((768, 1280), (768, 768), (768, 2304), (1152, 768))
LAYERS = 24


def _session(k: int, n: int, threads: int) -> onnxruntime.InferenceSession:
    weights = np.random.default_rng(0).integers(-127, 128, (k, n)).astype(np.int8)
    initializers = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.full(n, 0.01, np.float32), "scale"),
        numpy_helper.from_array(np.zeros(n, np.int8), "zero"),
    ]
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "scale", "zero"], ["y"], domain="com.microsoft")
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, n])],
        initializers,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Roofline:
    """Tokens a second of EmbeddingGemma's matrix products, nothing else; call it for one more measurement."""

    def __init__(self, *, threads: int) -> None:
        self._sessions = [
            (_session(k, n, threads), np.random.default_rng(1).standard_normal((ROWS, k), np.float32))
            for k, n in SHAPES
        ]

    def __call__(self) -> float:
        started = time.perf_counter()
        for session, rows in self._sessions:
            for _ in range(8):
                session.run(None, {"x": rows})
        return 8 * ROWS / ((time.perf_counter() - started) * LAYERS)
