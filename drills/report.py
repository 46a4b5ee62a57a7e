"""Write the results of the drills and the soak to deploy/DRILLS.md and JSON files beside it."""

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

`make drill` last wrote this on {date}
({cpu}, {threads} threads, Python {python}, kernel {kernel}).

Four callers send a sentence, compare its vector with the vector of the bare engine and wait 0.1 s.
Two of them open a new connection for each call. In drills with texts of 2,048 tokens, two callers
send without a pause.

- *Lost*: a call that was accepted and then got no answer, or an error.
- *Refused*: a call that got 429 or 503 with Retry-After, or no connection.
- *Longest stall*: the longest time that one caller had no right answer.
- *Recovered*: the time from the end of the fault to the last call without a right answer and a
  `/health` without problems. Where the service recovers by itself, it begins with the fault.
- *At the limit*: the allocations for which the kernel first had to reclaim memory, including cached
  files. With none, the service stayed below the limit by itself.

`make drill` fails on a wrong vector, on a lost or refused call where none is expected, and on a row
whose last column differs from what is expected. A killed worker may lose the calls in flight; after
that and after SIGTERM new calls may be refused.

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
class Expected:
    """What a drill may show, and what its notes must match."""

    seen: str  # a regular expression
    may_lose: int = 0  # calls
    may_refuse: bool = False


@dataclass(frozen=True)
class Result:
    """What callers saw in one drill."""

    title: str
    calls: int
    wrong: int
    lost: int
    refused: int
    longest_stall_s: float
    recovered_s: float
    notes: str


def problems(result: Result, expected: Expected) -> list[str]:
    """One line for each difference from what was expected."""
    found = []
    if result.wrong:
        found.append(f"{result.wrong} wrong vectors")
    if result.lost > expected.may_lose:
        found.append(f"{result.lost} calls lost, at most {expected.may_lose} may be")
    if result.refused and not expected.may_refuse:
        found.append(f"{result.refused} calls refused, none may be")
    if re.search(expected.seen, result.notes) is None:
        found.append(f"not seen: {expected.seen}")
    return [f"{result.title}: {problem}" for problem in found]


def table(results: Sequence[Result]) -> str:
    """A Markdown table of results."""
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
    """Write the results of the drills, and the document."""
    found = {
        "machine": machine(),
        "date": _today(),
        "drills": [asdict(result) for result in results],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    _write()


def save_soak(figures: Mapping[str, Any]) -> str:
    """Write the results of the soak, and the document; returns the section about the soak."""
    soak = {"date": _today(), **figures}
    SOAK.write_text(json.dumps(soak, indent=1) + "\n")
    _write()
    return paragraph(soak)


def known() -> list[Result]:
    """The last results of the drills."""
    if not RESULTS.exists():
        return []
    return [Result(**row) for row in json.loads(RESULTS.read_text())["drills"]]


def _write() -> None:
    """Write the document from the JSON files."""
    about = {"date": _today(), "machine": machine()} | (
        json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    )
    soak = paragraph(json.loads(SOAK.read_text())) if SOAK.exists() else ""
    text = TEXT.format(table=table(known()), soak=soak, date=about["date"], **about["machine"])
    TABLE.write_text(text, encoding="utf-8")


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def paragraph(soak: Mapping[str, Any]) -> str:
    """The section about the soak, as Markdown."""
    first, last, limits = (soak[name] for name in ("after_warm_up", "end", "limits"))
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in soak["calls"].items())
    lines = [
        "## Soak",
        "",
        f"`make soak` wrote this on {soak['date']}: {soak['minutes']:g} minutes with Redis at "
        f"{soak['calls_a_second']:.0f} calls/s,",
        f"{soak['share_of_capacity']:.0%} of the {soak['capacity']:.0f} calls/s at the start "
        f"({counts}).",
        "Growth is the slope of a line through the samples after the first quarter, with two",
        "standard errors. The soak fails when the slope less that uncertainty is over the limit.",
        "",
        "| Of the worker | After the first quarter | At the end | Growth per hour | Limit |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {WORDS[name]} | {first[name]:,.0f} | {last[name]:,.0f} | "
            f"{slope:+.1f} ± {error:.1f} | {limits[name]:g} |"
            for name, (slope, error) in soak["growth_an_hour"].items()
        ),
        "",
    ]
    return "\n".join(lines)
