"""The files of benchmarks/results, and the names in them."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"

OURS, AVX2, AVX_VNNI = "ours int8", "ours int8, AVX2", "ours int8, AVX-VNNI"
V0_1 = "v0.1 int8"
LITERT = "LiteRT int8"
OPENVINO, OPENVINO_AVX2 = "OpenVINO int8", "OpenVINO, AVX2"
OPENVINO_AVX_VNNI = "OpenVINO int8, AVX-VNNI"
ONNX_RUNTIME = "ONNX Runtime dynamic int8"
LLAMA_CPP = "llama.cpp Q8_0"
FP32 = "sentence-transformers fp32"
OURS_2, OURS_2_FP32 = "EmbeddingGemma 2 int8", "EmbeddingGemma 2 fp32"
FP32_2 = "EmbeddingGemma 2, sentence-transformers fp32"
# Limited to instructions of older CPUs, or with another model.
HELD_BACK = (AVX2, AVX_VNNI, OPENVINO_AVX2, OPENVINO_AVX_VNNI, OURS_2, OURS_2_FP32, FP32_2)

ONE_USER, TEN_USERS = "beside one user's batches", "beside ten users' batches"
FAIRNESS = (ONE_USER, TEN_USERS)


def results(name: str) -> dict[str, Any]:
    """The last results of a benchmark. Raises FileNotFoundError when there are none."""
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded
