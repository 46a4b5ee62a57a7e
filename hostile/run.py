"""One row: an idle period, the attack, and the time until the service is idle again."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

import httpx

from hostile.meter import Mark, Meter
from hostile.report import Result
from hostile.row import Row
from hostile.seen import Calls
from hostile.stage import Child, Stage, staged
from hostile.table import ROWS
from lab.server import CACHE, Server

WARM = 0.5  # seconds of calls that are not counted
IDLE = 1.5  # seconds before the attack that it is compared with
SETTLE = 10.0  # seconds in which memory has to be released
NEAR_MB = 50.0  # above idle that count as released
BUSY = 0.3  # CPU seconds per second above idle that count as still at work
SENTENCE = json.dumps({"text": "A man is playing a guitar."})
LARGE = json.dumps({"texts": ["A man is playing a guitar. " * 37] * 100})  # 100 KB
PACK = {"text": "word " * 1_000}  # more tokens than the model reads
VICTIMS, FRESH = 256, 4_000  # victims take turns, since the request limit is per user


def run(name: str, environment: Mapping[str, str]) -> Result:
    """Run a row on a new service.

    Args:
        name: of the row.
        environment: settings besides those of the row.
    """
    row = ROWS[name]
    result = None
    settings = {**environment, **(CACHE if row.cache else {})}
    frame = staged(settings, per_minute=row.per_minute, hanging_keys=row.hanging_keys)
    try:
        with frame as stage:
            result = play(name, stage)
    except subprocess.TimeoutExpired:  # the service did not stop and was killed
        if result is None:
            raise
        return replace(result, notes="it did not stop within 30 s of SIGTERM")
    return result


def play(name: str, stage: Stage, *, seconds: float | None = None, idle: float = IDLE) -> Result:
    """Run a row on a running service.

    Args:
        name: of the row.
        stage: the service.
        seconds: of attack; None for those of the row.
        idle: seconds before the attack that it is compared with.
    """
    row = ROWS[name]
    pack = _pack_seconds(stage)
    seconds = seconds or row.seconds
    attackers = stage.users(row.users)
    with ExitStack() as stack:
        victim, livez = (stack.enter_context(child) for child in _witnesses(row, stage))
        orders = {"row": name, "tokens": attackers, "seconds": seconds}
        attacker = stack.enter_context(stage.child("attacker", **orders))
        for child in (victim, livez, attacker):  # started together, which takes less time
            child.wait_until_ready()
        meter = Meter(stage.server.process.pid)
        victim.tell()
        livez.tell()
        time.sleep(WARM)
        before = meter.mark()
        time.sleep(idle)
        struck = meter.mark()
        meter.start()
        attacker.tell()
        outcomes = _watch(attacker, meter, seconds)
        attacker.kill()
        ended = meter.mark()
        _settle(meter, before, struck)
        quiet = meter.mark()
        victim.tell()
        livez.tell()
        calls = Calls.read(victim.report())
        polls = Calls.read(livez.report())
        meter.stop()
    charged = _charged(stage.server, attackers)
    seen = Seen(before, struck, ended, quiet, meter, calls, polls)
    return _result(name, outcomes, charged, pack, seen)


@dataclass(frozen=True)
class Seen:
    """What was measured: before, at the beginning and the end of the attack, and idle again."""

    before: Mark
    struck: Mark
    ended: Mark
    quiet: Mark
    meter: Meter
    calls: Calls  # of the victim
    polls: Calls  # of /livez

    @property
    def attackers_cpu(self) -> float:
        """CPU seconds since the attack began, less those of the victim and the polls.

        Their cost per call is that of the idle period before.
        """
        spent = self.struck.cpu_seconds - self.before.cpu_seconds
        began = self.before.at
        struck = self.struck.at
        calls = len(self.calls.between(began, struck)) + len(self.polls.between(began, struck))
        own = spent / calls * (len(self.calls.since(struck)) + len(self.polls.since(struck)))
        return max(0.0, self.quiet.cpu_seconds - self.struck.cpu_seconds - own)


def _result(
    name: str, outcomes: dict[str, int], charged: tuple[int, int], pack: float, seen: Seen
) -> Result:
    row = ROWS[name]
    meter = seen.meter
    struck = seen.struck.at
    idle = seen.calls.between(seen.before.at, struck)
    during = seen.calls.between(struck, seen.ended.at)
    since = seen.calls.since(struck)
    return Result(
        name=name,
        title=row.title,
        per_minute=row.per_minute,
        users=row.users,
        seconds=round(seen.ended.at - struck, 1),
        outcomes=outcomes,
        cpu_s=round(seen.attackers_cpu, 2),
        idle_mb=round(seen.struck.rss_mb, 1),
        peak_mb=round(max(0.0, meter.peak_mb - seen.struck.rss_mb), 1),
        stall_ms=round(seen.polls.since(struck).longest_ms, 1),
        idle_stall_ms=round(seen.polls.between(seen.before.at, struck).longest_ms, 1),
        requests=charged[0],
        tokens=charged[1],
        victim_p50_ms=round(during.percentile_ms(0.5), 1),
        victim_p95_ms=round(during.percentile_ms(0.95), 1),
        idle_p50_ms=round(idle.percentile_ms(0.5), 1),
        idle_p95_ms=round(idle.percentile_ms(0.95), 1),
        pack_ms=round(pack * 1e3, 1),
        victim_calls=len(since),
        victim_failures=since.failures(),
        after_mb=round(seen.quiet.rss_mb - seen.struck.rss_mb, 1),
        settled_s=round(seen.quiet.at - seen.ended.at, 1),
        restarts=meter.restarts,
        notes="ended early: memory ran away" if meter.runaway.is_set() else "",
    )


def _pack_seconds(stage: Stage) -> float:
    """Seconds of a text of the full length, alone: the longest wait for a running forward pass."""
    found = []
    for bearer in stage.users(4):
        with stage.server.client(bearer) as client:
            began = time.monotonic()
            client.post("/embed", json=PACK).raise_for_status()
            found.append(time.monotonic() - began)
    return min(found)


def _witnesses(row: Row, stage: Stage) -> tuple[AbstractContextManager[Child], ...]:
    """The victim, and a probe that polls /livez."""
    tokens = stage.users(FRESH if row.fresh_tokens else VICTIMS)
    large = row.victim == "large"
    path, body = ("/tokenize", LARGE) if large else ("/embed", SENTENCE)
    victim = stage.child("witness", path=path, body=body, tokens=tokens, pause=0.02)
    return victim, stage.child("witness", path="/livez", body=None, tokens=[], pause=0.003)


def _watch(attacker: Child, meter: Meter, seconds: float) -> dict[str, int]:
    """Wait for the end of the attack and return its outcomes; end it when memory runs away."""
    deadline = time.monotonic() + 3 * seconds + 10
    while not attacker.ended and time.monotonic() < deadline and not meter.runaway.is_set():
        time.sleep(0.05)
    return dict(json.loads(attacker.report())) if attacker.ended else {}


def _settle(meter: Meter, before: Mark, struck: Mark) -> None:
    """Wait until memory is released and the service is idle, for at most SETTLE seconds."""
    load = (struck.cpu_seconds - before.cpu_seconds) / (struck.at - before.at)
    deadline = time.monotonic() + SETTLE
    last = meter.mark()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = meter.mark()
        busy = (now.cpu_seconds - last.cpu_seconds) / (now.at - last.at) - load > BUSY
        if not busy and 0 < now.rss_mb < struck.rss_mb + NEAR_MB:
            return
        last = now


def _charged(server: Server, tokens: Sequence[str]) -> tuple[int, int]:
    """The requests and tokens that all users were charged; -1 when the service does not tell."""
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
