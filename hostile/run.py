"""One row: an idle while, the attack, and what stays of it."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import httpx

from hostile.meter import Meter
from hostile.report import Result
from hostile.seen import Calls
from hostile.stage import Child, Stage, staged
from hostile.table import ROWS, Row
from tests.live.server import Server

WARM, IDLE = 0.5, 1.5  # seconds before the attack; the second part is what is compared with
SETTLE = 10.0  # seconds in which memory has to come back
NEAR_MB = 50.0  # of the idle memory, which counts as back
BUSY = 0.3  # CPU seconds a second above idle that count as still at work
SENTENCE = json.dumps({"text": "A man is playing a guitar."})
LARGE = json.dumps({"texts": ["A man is playing a guitar. " * 37] * 100})  # 100 KB
PACK = {"text": "word " * 1_000}  # as many tokens as the model reads
VICTIMS, FRESH = 256, 4_000  # victims, who take turns: the limit is for each of them


def run(name: str, environment: Mapping[str, str]) -> Result:
    """The row of that name on a service of its own, with `environment` on top of the row's."""
    row, result = ROWS[name], None
    frame = staged(environment, per_minute=row.per_minute, hanging_keys=row.hanging_keys)
    try:
        with frame as stage:
            result = play(name, stage)
    except subprocess.TimeoutExpired:  # of the service, which was killed then
        if result is None:
            raise
        return replace(result, notes="it did not stop within 30 s of SIGTERM")
    return result


def play(name: str, stage: Stage, *, seconds: float | None = None, idle: float = IDLE) -> Result:
    """The row of that name on `stage`.

    Args:
        seconds: of attack, instead of the row's.
        idle: seconds before it that it is compared with.
    """
    row, pack = ROWS[name], _pack_seconds(stage)
    attackers = stage.users(row.users)
    with ExitStack() as stack:
        victim, livez = (
            stack.enter_context(stage.child("witness", **orders))
            for orders in _witnesses(row, stage)
        )
        orders = {"row": name, "tokens": attackers, "seconds": seconds or row.seconds}
        attacker = stack.enter_context(stage.child("attacker", **orders))
        meter = Meter(stage.server.process.pid)
        victim.tell()
        livez.tell()
        time.sleep(WARM)
        began, cpu_before = time.monotonic(), meter.cpu_seconds
        time.sleep(idle)
        struck, idle_cpu, idle_mb = time.monotonic(), meter.cpu_seconds - cpu_before, meter.rss_mb
        meter.start()
        attacker.tell()
        outcomes = _watch(attacker, meter, seconds or row.seconds)
        ended = time.monotonic()
        settled = _settle(meter, idle_mb, idle_cpu / idle)
        rss_mb, cpu = meter.rss_mb, meter.cpu_seconds - cpu_before - idle_cpu
        victim.tell()
        livez.tell()
        calls, polls = Calls.read(victim.report()), Calls.read(livez.report())
        meter.stop()
    requests, tokens = _charged(stage.server, attackers)
    before, during, after = (
        calls.between(began, struck),
        calls.between(struck, ended),
        calls.since(struck),
    )
    # What the victim and the probe cost is known from the idle while, per call of either.
    own = idle_cpu / (len(before) + len(polls.between(began, struck)))
    witnesses = own * (len(after) + len(polls.since(struck)))
    return Result(
        name=name,
        title=row.title,
        per_minute=row.per_minute,
        users=row.users,
        seconds=round(ended - struck, 1),
        outcomes=outcomes,
        cpu_s=round(max(0.0, cpu - witnesses), 2),
        idle_mb=round(idle_mb, 1),
        peak_mb=round(max(0.0, meter.peak_mb - idle_mb), 1),
        stall_ms=round(polls.since(struck).longest_ms, 1),
        idle_stall_ms=round(polls.between(began, struck).longest_ms, 1),
        requests=requests,
        tokens=tokens,
        victim_p50_ms=round(during.percentile_ms(0.5), 1),
        victim_p95_ms=round(during.percentile_ms(0.95), 1),
        idle_p50_ms=round(before.percentile_ms(0.5), 1),
        idle_p95_ms=round(before.percentile_ms(0.95), 1),
        pack_ms=round(pack * 1e3, 1),
        victim_calls=len(after),
        victim_failures=after.failures(),
        after_mb=round(rss_mb - idle_mb, 1),
        settled_s=round(settled, 1),
        restarts=meter.restarts,
        notes="ended early: memory ran away" if meter.runaway.is_set() else "",
    )


def _pack_seconds(stage: Stage) -> float:
    """A text as long as the model reads, alone: at most what a victim waits for a pass under way."""
    found = []
    for bearer in stage.users(4):
        with stage.server.client(bearer) as client:
            began = time.monotonic()
            client.post("/embed", json=PACK).raise_for_status()
            found.append(time.monotonic() - began)
    return min(found)


def _witnesses(row: Row, stage: Stage) -> tuple[dict[str, object], dict[str, object]]:
    """The orders of the victim, and of who polls /livez."""
    tokens = stage.users(FRESH if row.fresh_tokens else VICTIMS)
    large = row.victim == "large"
    path, body = ("/tokenize", LARGE) if large else ("/embed", SENTENCE)
    victim = {"path": path, "body": body, "tokens": tokens, "pause": 0.02}
    return victim, {"path": "/livez", "body": None, "tokens": [], "pause": 0.003}


def _watch(attacker: Child, meter: Meter, seconds: float) -> dict[str, int]:
    """What came of the attack, which is ended where the service's memory runs away."""
    deadline = time.monotonic() + 3 * seconds + 10
    while not attacker.ended and time.monotonic() < deadline and not meter.runaway.is_set():
        time.sleep(0.05)
    if not attacker.ended:
        attacker.kill()
    return dict(json.loads(attacker.report() or "{}"))


def _settle(meter: Meter, idle_mb: float, idle_load: float) -> float:
    """Seconds until memory is back and nothing is worked on, at most SETTLE."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < SETTLE:
        cpu = meter.cpu_seconds
        time.sleep(0.5)
        busy = (meter.cpu_seconds - cpu) / 0.5 - idle_load > BUSY
        if not busy and 0 < meter.rss_mb < idle_mb + NEAR_MB:
            return waited
    return waited


def _charged(server: Server, tokens: Sequence[str]) -> tuple[int, int]:
    """Requests and tokens that the users were charged, all together; -1 where nobody says."""
    requests = used = 0
    try:
        for bearer in tokens:
            with server.client(bearer) as client:
                found = client.get("/usage").raise_for_status().json()
            requests += found["requests"]["limit"] - found["requests"]["remaining"]
            used += found["tokens"]["limit"] - found["tokens"]["remaining"]
    except httpx.HTTPError:
        return -1, -1
    return requests, used
