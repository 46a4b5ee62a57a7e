"""Compare engines limited to the instructions of older CPUs: AVX2 and AVX-VNNI.

    python -m benchmarks.avx2 [--json PATH] [--quick]

Our kernel is chosen by name, OpenVINO's by ONEDNN_MAX_CPU_ISA. With AVX2, OpenVINO multiplies int8
weights in fp32: its dynamic quantisation cannot be loaded, and its static quantisation is slower
still. ONNX Runtime cannot be limited; it uses all instructions of this machine.
"""

from benchmarks.report import arguments, save
from benchmarks.rounds import Rounds, by_workload, least_times_faster, measure
from benchmarks.sides import loaded
from benchmarks.workloads import AT_128, MIXED, ONE_16, QUICK, WORKLOADS
from lab.results import AVX2, HELD_BACK, ONNX_RUNTIME, OURS


def main() -> None:
    options = arguments("avx2", __doc__)
    chosen = [
        one
        for one in (QUICK if options.quick else WORKLOADS)
        if one.name in (ONE_16, AT_128, MIXED)
    ]
    with loaded([*HELD_BACK, OURS, ONNX_RUNTIME]) as (sides, missing):
        measured = [measure(sides, workload) for workload in chosen]
    figures = {
        "tokens_per_second": by_workload(measured, Rounds.rates),
        "times_faster_than": by_workload(measured, lambda rounds: rounds.times_faster(AVX2)),
        "least_times_faster": least_times_faster(measured, AVX2),
    }
    save(options.json, {**figures, "unavailable": missing})


if __name__ == "__main__":
    main()
