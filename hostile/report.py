"""Write the results of rows to docs/hostile.md and benchmarks/results/hostile.json."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hostile.table import GROUPS
from lab.figures import machine
from lab.results import RESULTS

FILE = RESULTS / "hostile.json"
DOCUMENT = RESULTS.parent.parent / "docs" / "hostile.md"
# Targets.
STALL_MS = 50.0  # above the longest stall of the idle service
PEAK_MB = 150.0  # above idle
AFTER_MB = 50.0  # above idle, 10 s later
SLOWER = 3  # times the idle p95, besides one forward pass


@dataclass(frozen=True)
class Result:
    """The result of one row. Memory is that of the worker process."""

    name: str
    title: str
    per_minute: int
    users: int
    seconds: float
    outcomes: Mapping[str, int]  # of the attackers' requests, by status and code
    cpu_s: float  # seconds that the service worked for the attackers
    idle_mb: float
    peak_mb: float  # above idle
    stall_ms: float
    idle_stall_ms: float
    requests: int  # charged to the attackers
    tokens: int
    victim_p50_ms: float
    victim_p95_ms: float
    idle_p50_ms: float
    idle_p95_ms: float
    pack_ms: float
    victim_calls: int
    victim_failures: Mapping[str, int]
    after_mb: float  # above idle
    settled_s: float
    restarts: int
    notes: str

    @property
    def most_p95_ms(self) -> float:
        return SLOWER * self.idle_p95_ms + self.pack_ms

    @property
    def most_stall_ms(self) -> float:
        return self.idle_stall_ms + STALL_MS


def missed(result: Result) -> list[str]:
    """One line per target that was missed."""
    return [*missed_on_any_machine(result), *missed_times(result)]


def missed_on_any_machine(result: Result) -> list[str]:
    """Targets that do not depend on the speed of the machine."""
    found = []
    if result.restarts:
        found.append(f"restarted {result.restarts} times")
    if result.victim_failures:
        found.append(f"the victim was not answered 200: {dict(result.victim_failures)}")
    if result.peak_mb > PEAK_MB:
        found.append(f"memory rose by {result.peak_mb:.0f} MB, {PEAK_MB:.0f} at most")
    if result.after_mb > AFTER_MB:
        found.append(f"{result.after_mb:.0f} MB of it stayed, {AFTER_MB:.0f} at most")
    if result.notes:
        found.append(result.notes)
    return found


def missed_times(result: Result) -> list[str]:
    """Targets that depend on the machine, relative to its idle period."""
    stall = result.stall_ms
    most_stall = result.most_stall_ms
    p95 = result.victim_p95_ms
    most_p95 = result.most_p95_ms
    found = []
    if stall > most_stall:
        found.append(f"/livez stalled for {stall:.0f} ms, {most_stall:.0f} at most")
    if p95 > most_p95:
        found.append(f"the victim's p95 was {p95:.0f} ms, {most_p95:.0f} at most")
    return found


HEAD = (
    "What is sent",
    "Answers",
    "Charged",
    "CPU, s",
    "Memory, MB",
    "Stays, MB",
    "Stall, ms",
    "Victim p50, p95, ms",
    "Missed",
)
TEXT = """# What an input costs

`make hostile` wrote this on {date} ({cpu}, {threads} threads, Python {python}, kernel {kernel}).

Each row starts a service with the starter model and the default limits. Requests per minute are 10
where the row says "at the default limit", and not limited in the other rows, to show the cost of
the work. Attackers send at full speed for some seconds. Meanwhile a victim embeds one sentence
after another, and a probe polls `/livez` every few milliseconds. The victim is another user at
another address, unless the row says otherwise. All share the machine.

- *Charged*: requests and tokens of the attackers, from `/usage`.
- *CPU*: seconds that the service worked for the attackers.
- *Memory*: the peak above the idle service; *stays*: how much was left, at most 10 s later.
- *Stall*: the longest time without an answer to `/livez`, in brackets before the attack.
- *Victim*: median and 95th percentile of its calls, in brackets its p95 before the attack.
- *Missed*: the targets that were missed.

Targets: nothing restarts. The victim is always answered 200, and its p95 is at most {slower} times
the idle p95 plus one forward pass ({pack:.0f} ms). Memory rises by at most {peak:.0f} MB, and at
most {after:.0f} MB of it stay. No stall is more than {stall:.0f} ms longer than the idle one.

{tables}"""


def table(results: Sequence[Result]) -> str:
    """A Markdown table of results."""
    lines = [HEAD, ("---",) + ("---:",) * 7 + ("---",), *map(_cells, results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cells(result: Result) -> tuple[str, ...]:
    answers = ", ".join(f"{n:,} x {what}" for what, n in _most(result.outcomes))
    return (
        result.title,
        answers or "none",
        f"{result.requests:,}; {result.tokens:,}" if result.requests >= 0 else "unknown",
        f"{result.cpu_s:.1f}",
        f"{result.peak_mb:.0f}",
        f"{result.after_mb:.0f}",
        f"{result.stall_ms:.0f} ({result.idle_stall_ms:.0f})",
        f"{result.victim_p50_ms:.0f}, {result.victim_p95_ms:.0f} ({result.idle_p95_ms:.0f})",
        "; ".join(missed(result)) or "none",
    )


def _most(outcomes: Mapping[str, int], n: int = 4) -> list[tuple[str, int]]:
    return sorted(outcomes.items(), key=lambda item: -item[1])[:n]


def known() -> dict[str, Result]:
    """The last results by name of the row."""
    if not FILE.exists():
        return {}
    return {row["name"]: Result(**row) for row in json.loads(FILE.read_text())["rows"]}


def save(results: Mapping[str, Result]) -> None:
    """Write the results, and the document."""
    about = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
    rows = [asdict(result) for result in results.values()]
    FILE.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(document(results, about), encoding="utf-8")


def document(results: Mapping[str, Result], about: Mapping[str, Any]) -> str:
    """The document: the introduction, and a table for each group of rows."""
    parts = [
        f"## {group}\n\n{table([results[name] for name in rows if name in results])}"
        for group, rows in GROUPS.items()
    ]
    packs = [result.pack_ms for result in results.values()]
    targets = {"slower": SLOWER, "peak": PEAK_MB, "after": AFTER_MB, "stall": STALL_MS}
    return TEXT.format(
        tables="\n".join(parts),
        pack=sum(packs) / max(len(packs), 1),
        date=about["date"],
        **about["machine"],
        **targets,
    )
