"""What the drills and the soak saw -> deploy/DRILLS.md, deploy/drills.json."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import machine

DEPLOY = Path(__file__).parent.parent / "deploy"
TABLE, RESULTS, SOAK = DEPLOY / "DRILLS.md", DEPLOY / "drills.json", DEPLOY / "soak.json"
TEXT = """# Fault drills

`make drill` wrote this on {date} ({cpu}, {threads} threads, Python {python}, ONNX Runtime {onnxruntime}).

Four callers, two of them on a new connection each time, send a sentence, compare its vector with the bare engine's
and wait 0.1 s (two send texts of 2,048 tokens without a pause where it says so). *Lost* is a call that was taken and
then got no answer, or a fault; *refused* one that was told to come back (429 or 503 with Retry-After) or was not let
in at all. *Longest stall* is the longest time that one caller had no right answer, *recovered* the time from the end of
the fault, or from the blow itself where nothing is repaired from outside, to the last call with trouble and a
`/health` without complaint.

{table}
{soak}"""


@dataclass(frozen=True)
class Result:
    """What callers saw."""

    title: str
    calls: int
    wrong: int
    lost: int
    refused: int
    longest_stall_s: float
    recovered_s: float
    notes: str


def complaints(result: Result, *, may_lose: int, seen: str) -> list[str]:
    """What should not have been, or should have."""
    found = [f"{result.wrong} wrong vectors"] * (result.wrong > 0)
    found += [f"{result.lost} calls lost, at most {may_lose} may be"] * (result.lost > may_lose)
    found += [f"not seen: {seen}"] * (re.search(seen, result.notes) is None)
    return [f"{result.title}: {complaint}" for complaint in found]


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    head = ["Drill", "Calls", "Wrong vectors", "Lost", "Refused", "Longest stall, s", "Recovered after, s", "Seen"]
    rows = [[str(value) for value in asdict(result).values()] for result in results]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(results: Sequence[Result]) -> None:
    about, date = machine(), time.strftime("%Y-%m-%d")
    soak = paragraph(json.loads(SOAK.read_text())) if SOAK.exists() else ""
    TABLE.write_text(TEXT.format(table=table(results), soak=soak, **about, date=date), encoding="utf-8")
    RESULTS.write_text(
        json.dumps({"machine": about, "drills": [asdict(result) for result in results]}, indent=1) + "\n"
    )


def paragraph(soak: Mapping[str, Any]) -> str:
    """What `make soak` saw, as Markdown."""
    first, last, grown = (soak[name] for name in ("after_warm_up", "end", "growth_an_hour"))
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in soak["calls"].items())
    lines = [
        "## Soak",
        "",
        f"{soak['minutes']:g} minutes at {soak['share_of_capacity']:.0%} of what the service can do on this machine "
        f"({soak['calls_a_second']:.0f} calls/s, Redis counting): {counts}.",
        "",
        "| | After warm-up | At the end | Growth an hour |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {name} | {first[name]:,.0f} | {last[name]:,.0f} | {rate:+.1f} |" for name, rate in grown.items()),
        "",
    ]
    return "\n".join(lines)
