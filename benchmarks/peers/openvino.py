"""OpenVINO: int8 weights by NNCF, activations quantised in groups at run time."""

from typing import Any

import nncf
import openvino
import torch

from benchmarks.peers import Embed, Ids, Matrix, in_padded_batches
from lab.models import HOME

PACKAGE = "openvino"
MODEL = HOME / "openvino" / "int8.xml"
INPUTS = ("input_ids", "attention_mask")
# Values per scale; the fastest of those tried. With the default of 32, 8 texts of 128 tokens take
# 1.1 times as long; with the default precision, bf16 if the CPU has it, 1.5 times.
GROUP = "128"
OPTIONS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": "1",
}


def prepare(**_: Any) -> None:
    if MODEL.exists():
        return
    from benchmarks.peers.padded import example, original

    ids, mask = example(3, 20)
    with torch.no_grad():
        model = openvino.convert_model(
            original("sdpa"),
            example_input={"input_ids": ids, "attention_mask": mask},
            input=[(name, [-1, -1]) for name in INPUTS],
        )
    model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, MODEL.with_stem("unfinished"), compress_to_fp16=False)
    MODEL.with_stem("unfinished").with_suffix(".bin").rename(MODEL.with_suffix(".bin"))
    MODEL.with_stem("unfinished").rename(MODEL)


def load(threads: int, *, group: str = GROUP) -> Embed:
    options = {
        **OPTIONS,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "INFERENCE_NUM_THREADS": str(threads),
    }
    request = openvino.Core().compile_model(MODEL, "CPU", options).create_infer_request()

    def run(ids: Ids, mask: Ids) -> Matrix:
        vectors: Matrix = request.infer(dict(zip(INPUTS, (ids, mask), strict=True)))[0].copy()
        return vectors

    return in_padded_batches(run)
