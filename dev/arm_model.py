"""Estimate the speed of the engine on a Neoverse N1, without one.

python -m dev.arm_model

qemu counts how often each block of instructions of a forward pass is executed. llvm-mca tells how
many cycles each block takes on that core, if every load hits L1 and every branch is predicted.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dev import arm_program, arm_shape
from dev.arm_trace import Words, executions

CPU, TRIPLE = "neoverse-n1", "aarch64"
FETCH = 4  # instructions per cycle; llvm-mca only models the issue of micro-operations
GHZ, CORES = 3.0, 4
TOKENS = 128
LLVM = "19"  # older versions have no model of the Neoverse N1


@dataclass(frozen=True)
class Cost:
    """The cost of one execution of a block that is executed repeatedly."""

    instructions: int
    sdot: int
    cycles: float


def tool(name: str) -> str:
    """The path of a program of LLVM. Raises SystemExit when it is missing."""
    if path := shutil.which(f"{name}-{LLVM}"):
        return path
    sys.exit(f"{name}-{LLVM} is missing. On Debian or Ubuntu: apt-get install llvm-{LLVM}")


def costs(blocks: Sequence[Words]) -> list[Cost]:
    """The cost of each block, from one run of llvm-mca."""
    listing = disassembled(blocks)
    begin = "# LLVM-MCA-BEGIN"
    end = "# LLVM-MCA-END"
    source = "\n".join(line for lines in listing for line in (begin, *lines, end))
    options = [f"-mtriple={TRIPLE}", f"-mcpu={CPU}", "-iterations=100", "-json"]
    regions = json.loads(filtered([tool("llvm-mca"), *options], source))["CodeRegions"]
    found = []
    for lines, region in zip(listing, regions, strict=True):
        summary = region["SummaryView"]
        cycles = max(summary["TotalCycles"] / summary["Iterations"], len(lines) / FETCH)
        found.append(Cost(len(lines), sum("sdot" in line for line in lines), cycles))
    return found


def disassembled(blocks: Sequence[Words]) -> list[list[str]]:
    """The instructions of each block, as text."""
    words = [word for block in blocks for word in block]
    data = " ".join(f"0x{byte:02x}" for word in words for byte in bytes.fromhex(word)[::-1])
    options = ["--disassemble", f"-triple={TRIPLE}", "-mattr=+all"]
    lines = iter(filtered([tool("llvm-mc"), *options], data).splitlines()[1:])  # the first: .text
    return [[next(lines).strip() for _ in block] for block in blocks]


def filtered(command: Sequence[str], text: str) -> str:
    """The output of a program that reads `text`."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return done.stdout


@dataclass(frozen=True)
class Pass:
    """The total cost of executions; `hot` is the block with most SDOT instructions."""

    instructions: float
    sdot: float
    cycles: float
    hot: Cost

    @classmethod
    def of(cls, counts: Mapping[Words, int]) -> "Pass":
        """The blocks of one forward pass, and how often each runs."""
        blocks = list(counts)
        priced = dict(zip(blocks, costs(blocks), strict=True))
        hot = max(priced.values(), key=lambda cost: cost.sdot)
        total = [(count, priced[block]) for block, count in counts.items()]
        return cls(
            instructions=sum(count * cost.instructions for count, cost in total),
            sdot=sum(count * cost.sdot for count, cost in total),
            cycles=sum(count * cost.cycles for count, cost in total),
            hot=hot,
        )

    def with_layers(self, two: "Pass", layers: int) -> "Pass":
        """Extrapolate to `layers` layers, where `self` has one layer and `two` has two."""

        def at(name: str) -> float:
            one = getattr(self, name)
            return float(one + (layers - 1) * (getattr(two, name) - one))

        return Pass(at("instructions"), at("sdot"), at("cycles"), self.hot)


def measured(directory: Path, layers: int) -> Pass:
    """One forward pass of a model with so many layers, counted under the emulator."""
    model = directory / f"{layers}-layers"
    arm_shape.write(model, layers)
    token_ids = [np.arange(TOKENS) % arm_shape.VOCABULARY]
    case = arm_program.Case(model=model, token_ids=token_ids, kernels=("dotprod",))
    return Pass.of(executions(CPU, arm_program.written(case, directory / "case")))


def report(whole: Pass) -> Iterable[str]:
    """Lines of the result."""
    hot = whole.hot
    speed = TOKENS * GHZ * 1e9 / whole.cycles
    weights = arm_shape.LAYERS * arm_shape.PER_LAYER * TOKENS / 16
    yield f"hot loop        {hot.sdot} SDOT in {hot.cycles:.1f} cycles, at most 2 per cycle"
    yield f"one text        {TOKENS} tokens"
    yield f"  instructions  {whole.instructions / 1e6:,.0f} M"
    yield f"  SDOT          {whole.sdot / 1e6:,.0f} M, {weights / 1e6:,.0f} M of them with weights"
    yield f"  cycles        {whole.cycles / 1e6:,.0f} M"
    yield f"one core        {speed:,.0f} tokens/s at {GHZ} GHz"
    yield f"{CORES} cores         {CORES * speed:,.0f} tokens/s"


def main() -> None:
    """Print the modelled speed."""
    with tempfile.TemporaryDirectory() as scratch:
        one, two = (measured(Path(scratch), layers) for layers in (1, 2))
    print("\n".join(report(one.with_layers(two, arm_shape.LAYERS))))


if __name__ == "__main__":
    main()
