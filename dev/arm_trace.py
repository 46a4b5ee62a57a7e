"""Count the instructions that a program executes, from the log of qemu."""

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from dev import arm_program

Words = tuple[str, ...]  # instructions in hexadecimal
# Blocks are joined when one follows the other this often. A rarely taken branch splits the loops
# of the products into several blocks.
MOSTLY = 0.9


def executions(cpu: str, case: Path) -> dict[Words, int]:
    """How often each sequence of instructions is executed."""
    log = ["-d", "in_asm,exec,nochain", "-D", "/dev/stderr"]
    command = [*arm_program.emulator(cpu, *log), str(arm_program.make()), str(case)]
    null = subprocess.DEVNULL
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=null, stderr=pipe, text=True) as process:
        code, steps = _read(process.stderr or ())
    if process.returncode:
        sys.exit(f"{command[0]}: status {process.returncode}")
    counts: Counter[int] = Counter()
    for (_, block), count in steps.items():
        counts[block] += count
    merged: dict[Words, int] = defaultdict(int)
    for run in _runs(counts, steps):
        words = tuple(word for block in run for word in code[block])
        merged[words] += max(counts[block] for block in run)
    return merged


def _read(log: Iterable[str]) -> tuple[dict[int, list[str]], Counter[tuple[int, int]]]:
    """The instructions of each block by address, and how often one block follows another."""
    code: dict[int, list[str]] = {}
    steps: Counter[tuple[int, int]] = Counter()
    current: list[str] = []
    last = 0
    for line in log:
        if line.startswith("Trace"):  # Trace 0: HOST [BASE/ADDRESS/FLAGS/FLAGS] SYMBOL
            block = int(line.split("/", 2)[1], 16)
            steps[last, block] += 1
            last = block
        elif line.startswith("IN:"):
            current = []
        elif line.startswith("0x"):  # ADDRESS:  WORD  INSTRUCTION
            address, word = line.split(None, 2)[:2]
            if not current:
                code[int(address[:-1], 16)] = current
            current.append(word)
    return code, steps


def _runs(counts: Counter[int], steps: Counter[tuple[int, int]]) -> list[list[int]]:
    """Join blocks that mostly follow each other: parts of a loop overlap on a real core."""
    after: dict[int, int] = {}
    before: dict[int, int] = {}
    for (first, second), count in steps.most_common():
        if first == second or first in after or second in before:
            continue
        if count >= MOSTLY * max(counts[first], counts[second]):
            after[first] = second
            before[second] = first
    runs = []
    left = dict.fromkeys(counts)
    while left:
        run = [next(iter(left))]
        while (earlier := before.get(run[0])) in left and earlier not in run:
            run.insert(0, earlier)
        while (later := after.get(run[-1])) in left and later not in run:
            run.append(later)
        for block in run:
            del left[block]
        runs.append(run)
    return runs
