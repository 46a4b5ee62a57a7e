"""What the drills and the soak saw -> deploy/DRILLS.md, deploy/drills.json."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.figures import machine

DEPLOY = Path(__file__).parent.parent / "deploy"
TABLE, RESULTS, SOAK = DEPLOY / "DRILLS.md", DEPLOY / "drills.json", DEPLOY / "soak.json"
TEXT = """# Fault drills

`make drill` last wrote to this on {date} ({cpu}, {threads} threads, Python {python}, kernel {kernel}).

Four callers, two of them on a new connection each time, send a sentence, compare its vector with the bare engine's
and wait 0.1 s (two send texts of 2,048 tokens without a pause where it says so). *Lost* is a call that was taken and
then got no answer, or a fault; *refused* one that was told to come back (429 or 503 with Retry-After) or was not let
in at all. *Longest stall* is the longest time that one caller had no right answer, *recovered* the time from the end of
the fault, or from the blow itself where nothing is repaired from outside, to the last call with trouble and a
`/health` without complaint. *At the limit* counts the allocations for which the kernel first had to take back memory,
cached files included; with none, the service stayed below by itself.

`make drill` fails on a wrong vector, on a lost call or a refused one where none is expected (a killed worker may lose
what was in flight, and it and SIGTERM refuse newcomers), and on a row whose last column is not what it should be.

{table}
{soak}"""


WORDS = {
    "rss_mb": "memory, MB",
    "files": "open files",
    "threads": "threads",
    "series": "metric series",
    "tasks": "asyncio tasks",
}


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


def complaints(
    result: Result, *, may_lose: int = 0, may_refuse: bool = False, seen: str
) -> list[str]:
    """What should not have been, or should have."""
    found = [f"{result.wrong} wrong vectors"] * (result.wrong > 0)
    found += [f"{result.lost} calls lost, at most {may_lose} may be"] * (result.lost > may_lose)
    found += [f"{result.refused} calls refused, none may be"] * (
        result.refused > 0 and not may_refuse
    )
    found += [f"not seen: {seen}"] * (re.search(seen, result.notes) is None)
    return [f"{result.title}: {complaint}" for complaint in found]


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    head = [
        "Drill",
        "Calls",
        "Wrong vectors",
        "Lost",
        "Refused",
        "Longest stall, s",
        "Recovered after, s",
        "Seen",
    ]
    rows = [[str(value) for value in asdict(result).values()] for result in results]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def save(results: Sequence[Result]) -> None:
    """Write the drills' figures, and the document."""
    found = {
        "machine": machine(),
        "date": _today(),
        "drills": [asdict(result) for result in results],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    _write()


def save_soak(figures: Mapping[str, Any]) -> str:
    """Write the soak's figures, and the document. Returns its part of that."""
    soak = {"date": _today(), **figures}
    SOAK.write_text(json.dumps(soak, indent=1) + "\n")
    _write()
    return paragraph(soak)


def known() -> list[Result]:
    """What the drills saw last time."""
    return (
        [Result(**row) for row in json.loads(RESULTS.read_text())["drills"]]
        if RESULTS.exists()
        else []
    )


def _write() -> None:
    """The document, from the figures alone."""
    about = {"date": _today(), "machine": machine()} | (
        json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    )
    soak = paragraph(json.loads(SOAK.read_text())) if SOAK.exists() else ""
    text = TEXT.format(table=table(known()), soak=soak, date=about["date"], **about["machine"])
    TABLE.write_text(text, encoding="utf-8")


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def paragraph(soak: Mapping[str, Any]) -> str:
    """What `make soak` saw, as Markdown."""
    first, last, limits = (soak[name] for name in ("after_warm_up", "end", "limits"))
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in soak["calls"].items())
    lines = [
        "## Soak",
        "",
        f"`make soak` wrote this on {soak['date']}: {soak['minutes']:g} minutes with Redis at "
        f"{soak['calls_a_second']:.0f} calls/s,",
        f"{soak['share_of_capacity']:.0%} of the {soak['capacity']:.0f} that the machine did at the start ({counts}).",
        "Growth is the slope of a line through what followed the first quarter, ± two standard errors; the soak fails",
        "when what is sure of it is over the limit.",
        "",
        "| Of the worker | After the first quarter | At the end | Growth an hour | Limit |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {WORDS[name]} | {first[name]:,.0f} | {last[name]:,.0f} | "
            f"{slope:+.1f} ± {error:.1f} | {limits[name]:g} |"
            for name, (slope, error) in soak["growth_an_hour"].items()
        ),
        "",
    ]
    return "\n".join(lines)
