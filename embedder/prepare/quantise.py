"""An fp32 graph to row-wise int8, or to 16-bit storage.

Row-wise int8: each weight column, each embedding row and each token has its own scale, so a token's
result does not depend on the other tokens of the pack. With one scale for the whole activation
tensor (ONNX Runtime's dynamic quantisation) the cosine between a text alone and in a batch is 0.997.

fp16 means 16-bit storage and fp32 arithmetic: EmbeddingGemma's activations reach 8e5, fp16 ends at
65,504.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tqdm import tqdm

MIN_TABLE_ROWS = 1000  # smaller Gather tables (positions, angles) stay fp32: they cost nothing
TINY = 1e-12  # keeps a row of zeros from dividing by zero

Float = NDArray[np.float32]


class Rewriter:
    """Collects the nodes and constants that replace a graph's."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.made: set[str] = set()
        self.dims = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.consumers[name].append(node)

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def once(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Like `add`, for a node that several products share."""
        if output not in self.made:
            self.made.add(output)
            self.add(op, inputs, output, **attributes)
        return output

    def rows(self, x: str) -> str:
        """A name shared by the matrices that have as many rows as `x` for certain."""
        dims = self.dims.get(x)
        return (dims[0].dim_param if dims else "") or x

    def is_stack(self, x: str) -> bool:
        """Whether `x` is (1, T, width): modules that are wrapped as they are keep a batch axis of one."""
        return len(self.dims.get(x, ())) == 3

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def take(self, name: str) -> Float:
        """An initializer's values; it leaves the graph, and its memory is freed, once nobody else reads it."""
        return numpy_helper.to_array(self.weights[name]).astype(np.float32, copy=False)

    def finish(self) -> None:
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.weights.items() if name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept + list(self.constants.values()))


def quantised_weight(node: NodeProto, weights: Mapping[str, TensorProto]) -> tuple[str, str] | None:
    """(kind, initializer) of a node whose matrix shrinks: a product by a weight, or a lookup in a large table."""
    place = {"MatMul": 1, "Gather": 0}.get(node.op_type)
    tensor = weights.get(node.input[place]) if place is not None else None
    if tensor is None or len(tensor.dims) != 2 or (node.op_type == "Gather" and tensor.dims[0] < MIN_TABLE_ROWS):
        return None
    return node.op_type, tensor.name


def int8(matrix: Float, axis: int) -> tuple[NDArray[np.int8], Float]:
    """Symmetric int8 with one scale for each slice along `axis`: values and scale, `matrix` = values * scale."""
    scale = (np.maximum(np.abs(matrix).max(axis, keepdims=True), TINY) / 127).astype(np.float32)
    return np.round(matrix / scale).astype(np.int8), scale


def _int8_by_rows(table: Float, chunk: int = 8192) -> tuple[NDArray[np.int8], Float]:
    """int8 along axis 1 without three temporary copies of an 800 MB table."""
    parts = [int8(table[start : start + chunk], axis=1) for start in range(0, len(table), chunk)]
    values, scales = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(scales)


def to_int8(graph: onnx.GraphProto) -> None:
    """Rewrite every product by a weight and every large table in place."""
    rewriter = Rewriter(graph)
    rewriter.constant("int8.zero", np.array(128, np.uint8))
    rewriter.constant("int8.last_axis", np.array([-1], np.int64))
    rewriter.constant("int8.first_axis", np.array([0], np.int64))
    rewriter.constant("int8.unit", np.array(1 / 127, np.float32))
    rewriter.constant("int8.one", np.array(1, np.float32))
    rewriter.constant("int8.tiny", np.array(TINY, np.float32))
    replace = {"MatMul": _int8_product, "Gather": _int8_table}
    _rewrite(rewriter, replace, "int8")


def to_fp16(graph: onnx.GraphProto) -> None:
    """Store every such matrix in 16 bits, cast back to fp32 where it is used."""
    _rewrite(Rewriter(graph), {"MatMul": _fp16_product, "Gather": _fp16_table}, "fp16")


Replacement = Callable[[Rewriter, NodeProto, str], None]


def _rewrite(rewriter: Rewriter, replace: Mapping[str, Replacement], description: str) -> None:
    for node in tqdm(rewriter.graph.node, desc=f"quantise {description}", unit="node", leave=False):
        if found := quantised_weight(node, rewriter.weights):
            replace[found[0]](rewriter, node, found[1])
        else:
            rewriter.nodes.append(node)
    rewriter.finish()


def _int8_product(rewriter: Rewriter, node: NodeProto, weight: str) -> None:
    x, out = node.input[0], node.output[0]
    cancels = row_scale_cancels(out, rewriter.consumers, rewriter.weights)
    if rewriter.is_stack(x):
        x = rewriter.once("Squeeze", [x, "int8.first_axis"], f"{x}.matrix")
        out = f"{out}.matrix"
    _int8_matrix_product(rewriter, x, out, weight, cancels=cancels)
    if out != node.output[0]:
        rewriter.add("Unsqueeze", [out, "int8.first_axis"], node.output[0])


def _int8_matrix_product(rewriter: Rewriter, x: str, out: str, weight: str, *, cancels: bool) -> None:
    """out (T, n) = x (T, k) @ weight (k, n), each row of `out` short of its scale when `cancels`."""
    values, scale = int8(rewriter.take(weight), axis=0)
    rows, step = _int8_rows(rewriter, x)
    matrix = rewriter.constant(f"{weight}.int8", values)
    columns = rewriter.constant(f"{weight}.scale", scale[0])
    inputs = [rows, matrix, "int8.one", columns, "int8.zero"]
    if cancels:
        rewriter.add("MatMulIntegerToFloat", inputs, out, domain="com.microsoft")
        return
    unscaled = rewriter.add("MatMulIntegerToFloat", inputs, f"{out}.unscaled", domain="com.microsoft")
    factor = rewriter.once("Unsqueeze", [step, "int8.last_axis"], f"{step}.column")
    rewriter.add("Mul", [unscaled, factor], out)


def _int8_rows(rewriter: Rewriter, x: str) -> tuple[str, str]:
    """uint8 rows around 128 and each row's step, made once for all products that share `x`.

    Dividing inside QuantizeLinear, with a step a row, saves a pass over `x`: 5 % at 128 tokens.
    """
    rows = rewriter.rows(x)
    absolute = rewriter.once("Abs", [x], f"{x}.abs")
    absmax = rewriter.once("ReduceMax", [absolute, "int8.last_axis"], f"{x}.absmax", keepdims=0)
    unit = rewriter.once("Mul", [absmax, "int8.unit"], f"{x}.unit")
    step = rewriter.once("Max", [unit, "int8.tiny"], f"{x}.step")
    shape = rewriter.once("Shape", [step], f"{rows}.shape")
    zeros = rewriter.once("Expand", ["int8.zero", shape], f"{rows}.zeros")
    return rewriter.once("QuantizeLinear", [x, step, zeros], f"{x}.int8", axis=0), step


def row_scale_cancels(name: str, consumers: Mapping[str, list[NodeProto]], weights: Mapping[str, TensorProto]) -> bool:
    """Whether multiplying each row of `name` by a positive number would change nothing downstream.

    True in front of an RMSNorm, whose output has no scale, and so of a quantised product that only
    an RMSNorm reads: rows are quantised relative to their own maximum.
    """
    return bool(consumers[name]) and all(_forgets_scale(name, node, consumers, weights) for node in consumers[name])


def _forgets_scale(
    name: str, node: NodeProto, consumers: Mapping[str, list[NodeProto]], weights: Mapping[str, TensorProto]
) -> bool:
    if node.op_type == "RMSNormalization":
        return bool(node.input[0] == name)
    carries_scale = node.op_type in {"Reshape", "Mul"} or quantised_weight(node, weights) is not None
    return carries_scale and row_scale_cancels(node.output[0], consumers, weights)


def _int8_table(rewriter: Rewriter, node: NodeProto, weight: str) -> None:
    out, indices = node.output[0], node.input[1]
    values, scale = _int8_by_rows(rewriter.take(weight))
    table = rewriter.constant(f"{weight}.int8", values)
    scales = rewriter.constant(f"{weight}.scale", scale)
    picked = rewriter.add("Gather", [table, indices], f"{out}.int8", axis=0)
    floats = rewriter.add("Cast", [picked], f"{out}.float", to=TensorProto.FLOAT)
    factors = rewriter.add("Gather", [scales, indices], f"{out}.scale", axis=0)
    rewriter.add("Mul", [floats, factors], out)


def _fp16_product(rewriter: Rewriter, node: NodeProto, weight: str) -> None:
    half = rewriter.constant(f"{weight}.fp16", _half(rewriter.take(weight)))
    whole = f"{weight}.fp32"
    rewriter.once("Cast", [half], whole, to=TensorProto.FLOAT)
    rewriter.add("MatMul", [node.input[0], whole], node.output[0])


def _fp16_table(rewriter: Rewriter, node: NodeProto, weight: str) -> None:
    half = rewriter.constant(f"{weight}.fp16", _half(rewriter.take(weight)))
    picked = rewriter.add("Gather", [half, node.input[1]], f"{node.output[0]}.fp16", axis=0)
    rewriter.add("Cast", [picked], node.output[0], to=TensorProto.FLOAT)


def _half(matrix: Float) -> NDArray[np.float16]:
    limit = np.finfo(np.float16).max
    return np.clip(matrix, -limit, limit).astype(np.float16)


PRECISIONS: Mapping[str, Callable[[onnx.GraphProto], None]] = {"int8": to_int8, "fp16": to_fp16}


def quantise(source: Path, target: Path, quantization: str) -> None:
    """Write `source` again with its matrices in `quantization`; weights lie beside each graph."""
    model = onnx.load(str(source))
    PRECISIONS[quantization](model.graph)
    if "com.microsoft" not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(target), save_as_external_data=True, location=f"{target.name}.data", size_threshold=1024)
