"""What the rows cost -> docs/hostile.md, benchmarks/results/hostile.json."""

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
STALL_MS = 50.0  # above the longest while nothing was done to the service
PEAK_MB = 150.0  # above idle
AFTER_MB = 50.0  # above idle, 10 s later
SLOWER = 3  # times the idle p95, and one pass of the engine


@dataclass(frozen=True)
class Result:
    """One row. `cpu_s` is what the attackers made the service's processes work; memory of the worker."""

    name: str
    title: str
    per_minute: int
    users: int
    seconds: float
    outcomes: Mapping[
        str, int
    ]  # status and code of the attackers' answers, or what else became of them
    cpu_s: float
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
    def p95_bar_ms(self) -> float:
        return SLOWER * self.idle_p95_ms + self.pack_ms


def complaints(result: Result) -> list[str]:
    """What is over its bar, one line each."""
    return [*properties(result), *times(result)]


def properties(result: Result) -> list[str]:
    """What must hold on every machine, however slow."""
    found = [f"restarted {result.restarts} times"] * bool(result.restarts)
    found += [f"the victim was not answered 200: {dict(result.victim_failures)}"] * bool(
        result.victim_failures
    )
    found += [f"memory rose by {result.peak_mb:.0f} MB, {PEAK_MB:.0f} at most"] * (
        result.peak_mb > PEAK_MB
    )
    found += [f"{result.after_mb:.0f} MB of it stayed, {AFTER_MB:.0f} at most"] * (
        result.after_mb > AFTER_MB
    )
    found += [result.notes] * bool(result.notes)
    return found


def times(result: Result) -> list[str]:
    """What depends on the machine, judged by its idle while."""
    stall, p95 = result.idle_stall_ms + STALL_MS, result.p95_bar_ms
    found = [f"/livez stood still for {result.stall_ms:.0f} ms, {stall:.0f} at most"] * (
        result.stall_ms > stall
    )
    found += [f"the victim's p95 was {result.victim_p95_ms:.0f} ms, {p95:.0f} at most"] * (
        result.victim_p95_ms > p95
    )
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
    "Over the bar",
)
TEXT = """# What an input costs

`make hostile` wrote this on {date} ({cpu}, {threads} threads, Python {python}, kernel {kernel}).

Each row starts a service with the starter model and every limit at its default, except requests per
minute: 10 where the row says "at the default limit", no limit in the others, so that the work itself is
seen. Attackers send at full speed for some seconds; meanwhile a victim, another user at another address
unless the row says so, embeds one sentence after the other, and a probe asks for `/livez` every few
milliseconds. All share the machine.

- *Charged*: requests and tokens of the attackers, as `/usage` tells them.
- *CPU*: seconds that the service worked for the attackers.
- *Memory*: its peak above that of the idle service; *stays*: what of it was left at most 10 s later.
- *Stall*: the longest time without an answer to `/livez`, and in brackets the longest before the attack.
- *Victim*: median and 95th percentile of its calls, and in brackets its p95 before the attack.

The bar: nothing restarts; the victim is always answered 200, and its p95 is at most {slower} times the idle one
and one pass of the engine ({pack:.0f} ms); memory rises by {peak:.0f} MB at most and is back to within
{after:.0f} MB; no stall is longer than {stall:.0f} ms above the idle one.

{tables}"""


def table(results: Sequence[Result]) -> str:
    """Markdown."""
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
        "; ".join(complaints(result)) or "no",
    )


def _most(outcomes: Mapping[str, int], n: int = 4) -> list[tuple[str, int]]:
    return sorted(outcomes.items(), key=lambda item: -item[1])[:n]


def known() -> dict[str, Result]:
    """What the rows cost last time."""
    if not FILE.exists():
        return {}
    return {row["name"]: Result(**row) for row in json.loads(FILE.read_text())["rows"]}


def save(results: Mapping[str, Result]) -> None:
    """Write the figures, and the document."""
    about = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
    rows = [asdict(result) for result in results.values()]
    FILE.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(document(results, about), encoding="utf-8")


def document(results: Mapping[str, Result], about: Mapping[str, Any]) -> str:
    """All groups, each with its table."""
    parts = [
        f"## {group}\n\n{table([results[name] for name in rows if name in results])}"
        for group, rows in GROUPS.items()
    ]
    packs = [result.pack_ms for result in results.values()]
    bars = {"slower": SLOWER, "peak": PEAK_MB, "after": AFTER_MB, "stall": STALL_MS}
    pack = sum(packs) / max(len(packs), 1)
    text = TEXT.format(
        tables="\n".join(parts), pack=pack, date=about["date"], **about["machine"], **bars
    )
    return text
