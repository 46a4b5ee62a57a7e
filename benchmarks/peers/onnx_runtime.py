"""ONNX Runtime with its dynamic int8: `quantize_dynamic` as in its documentation."""

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.peers import Embed, Ids, Matrix, in_padded_batches
from lab.models import HOME

PACKAGE = "onnxruntime"
DIRECTORY = HOME / "onnx-runtime"
MODEL = DIRECTORY / "int8.onnx"


def prepare() -> None:
    if MODEL.exists():
        return
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    plain = DIRECTORY / "fp32.onnx"
    unfinished = DIRECTORY / "unfinished.onnx"
    _export(plain)
    quantize_dynamic(plain, unfinished, weight_type=QuantType.QInt8)
    unfinished.rename(MODEL)
    for path in DIRECTORY.glob("fp32.onnx*"):
        path.unlink()


def _export(target: object) -> None:
    from benchmarks.peers.padded import example, original

    batch = torch.export.Dim("batch")
    width = torch.export.Dim("width")
    with torch.no_grad():
        program = torch.onnx.export(
            original("sdpa"),
            example(3, 20),
            dynamo=True,
            opset_version=20,
            dynamic_shapes={name: {0: batch, 1: width} for name in ("input_ids", "attention_mask")},
        )
    assert program is not None
    program.save(str(target), external_data=True)


def load(threads: int) -> Embed:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])

    def run(ids: Ids, mask: Ids) -> Matrix:
        vectors: Matrix = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors

    return in_padded_batches(run)
