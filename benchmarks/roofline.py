"""What the int8 matrix products alone would take: ONNX Runtime's own DynamicQuantizeMatMul at M = 512."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS = 512
# (K, N) of the products of one EmbeddingGemma layer: q|k|v, o, gate|up, down; 24 layers.
SHAPES = ((768, 1280), (768, 768), (768, 2304), (1152, 768))
LAYERS = 24


def _session(threads: int) -> onnxruntime.InferenceSession:
    """All products in one graph: sessions of their own would each have a pool that spins beside the others'."""
    nodes, inputs, outputs, weights = [], [], [], []
    for k, n in SHAPES:
        name = f"{k}x{n}"
        matrix = np.random.default_rng(0).integers(-127, 128, (k, n)).astype(np.int8)
        weights += [
            numpy_helper.from_array(matrix, f"w{name}"),
            numpy_helper.from_array(np.full(n, 0.01, np.float32), f"scale{name}"),
            numpy_helper.from_array(np.zeros(n, np.int8), f"zero{name}"),
        ]
        operands = [f"x{name}", f"w{name}", f"scale{name}", f"zero{name}"]
        nodes.append(helper.make_node("DynamicQuantizeMatMul", operands, [f"y{name}"], domain="com.microsoft"))
        inputs.append(helper.make_tensor_value_info(f"x{name}", TensorProto.FLOAT, [ROWS, k]))
        outputs.append(helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, [ROWS, n]))
    graph = helper.make_graph(nodes, "products", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Roofline:
    """Seconds that EmbeddingGemma's matrix products take for ROWS tokens, nothing else; call it to measure once."""

    def __init__(self, *, threads: int) -> None:
        self._session = _session(threads)
        random = np.random.default_rng(1)
        self._inputs = {f"x{k}x{n}": random.standard_normal((ROWS, k), np.float32) for k, n in SHAPES}

    def __call__(self) -> None:
        for _ in range(LAYERS):
            self._session.run(None, self._inputs)
