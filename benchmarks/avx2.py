"""Engines held to AVX2, the instructions of an older CPU.

    python -m benchmarks.avx2 [--json PATH] [--quick]

Ours takes the kernel by name, OpenVINO from ONEDNN_MAX_CPU_ISA. ONNX Runtime chooses its kernels by
CPUID alone and cannot be held back; it is here with all instructions, as a bound from above.
"""

import sys

from benchmarks.engine import measure
from benchmarks.report import arguments, machine, save
from benchmarks.sides import loaded
from benchmarks.tables import AVX2, ONNX_RUNTIME, OPENVINO, OPENVINO_AVX2, OURS
from benchmarks.workloads import QUICK, WORKLOADS


def main() -> None:
    options = arguments("avx2", __doc__)
    if "avx2" not in machine()["instructions"]:
        sys.exit("This CPU does not have AVX2.")
    with loaded([AVX2, OPENVINO_AVX2, OURS, OPENVINO, ONNX_RUNTIME]) as (sides, missing):
        measured = [
            measure(sides, workload, peaks=False)
            for workload in (QUICK if options.quick else WORKLOADS)
        ]
    figures = {
        "tokens_per_second": {rounds.workload.name: rounds.rates() for rounds in measured},
        "times_faster_than": {
            rounds.workload.name: rounds.times_faster(AVX2) for rounds in measured
        },
    }
    save(options.json, {**figures, "unavailable": missing})


if __name__ == "__main__":
    main()
