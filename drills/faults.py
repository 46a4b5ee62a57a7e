"""The faults, each injected by realistic means: signals, cgroups, a full disk, real sockets."""

import asyncio
import contextlib
import re
import resource
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from drills.load import Load
from lab.key_server import KeyServer
from lab.redis_server import RedisServer
from lab.server import Server, token

CGROUPS = Path("/sys/fs/cgroup")
UNIFIED = (CGROUPS / "cgroup.controllers").exists()  # cgroup version 2
# Files of a group: limits in bytes, or in microseconds per 100 ms, and counters.
FILES = (
    {"memory": "memory.max", "peak": "memory.peak", "hits": "memory.events", "cpu": "cpu.max"}
    if UNIFIED
    else {
        "memory": "memory.limit_in_bytes",
        "peak": "memory.max_usage_in_bytes",
        "hits": "memory.failcnt",
        "cpu": "cpu.cfs_quota_us",
    }
)


@dataclass
class Stage:
    """The processes of a drill, and a temporary directory."""

    directory: Path
    server: Server
    redis: RedisServer
    keys: KeyServer
    load: Load
    # time.monotonic() when the fault was removed, or injected if the service has to recover itself
    healed: float = 0.0
    ends: bool = False  # the fault ends the server for good
    notes: list[str] = field(default_factory=list)

    def worker(self) -> psutil.Process:
        """The worker process of the server."""
        [process] = psutil.Process(self.server.process.pid).children()
        return process

    def heal(self) -> None:
        """Note the time at which the fault was removed."""
        self.healed = time.monotonic()

    async def status(self, bearer: str) -> str:
        """The status of one call with `bearer`, and the code of an error."""
        headers = {"Authorization": f"Bearer {bearer}"}
        async with httpx.AsyncClient(
            base_url=self.server.url, headers=headers, timeout=30
        ) as client:
            answer = await client.post("/embed", json={"text": self.load.texts[0]})
        if answer.status_code == 200:
            return "200"
        return f"{answer.status_code} {answer.json()['error']['code']}"


async def redis_killed(stage: Stage) -> None:
    """Kill Redis, and start it again after 5 s."""
    stage.redis.kill()
    await asyncio.sleep(5)
    await asyncio.to_thread(stage.redis.start)
    stage.heal()


async def redis_frozen(stage: Stage) -> None:
    """Stop Redis for 30 s with SIGSTOP."""
    stage.redis.hang()
    await asyncio.sleep(30)
    stage.redis.wake()
    stage.heal()


async def worker_killed(stage: Stage) -> None:
    """Kill the worker; the supervisor starts another."""
    stage.heal()
    stage.worker().kill()
    await asyncio.sleep(0.2)


async def sigterm(stage: Stage) -> None:
    """Send SIGTERM while requests that take seconds are in flight."""
    headers = {"Authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(base_url=stage.server.url, headers=headers, timeout=60) as client:
        long = [
            asyncio.create_task(client.post("/batch-embed", json={"texts": ["word " * 200] * 70}))
            for _ in range(4)
        ]
        await asyncio.sleep(0.5)
        stage.heal()
        stage.server.process.send_signal(signal.SIGTERM)
        answers = [answer.status_code for answer in await asyncio.gather(*long)]
        status = await asyncio.to_thread(stage.server.process.wait, 60)
    stage.notes.append(f"4 batches in flight were answered {answers}; exit status {status}")
    stage.ends = True


async def slow_clients(stage: Stage) -> None:
    """Send 1,000 request heads, each one byte per second."""
    async with _connections(stage, 1000) as writers:
        for byte in b"POST /embed HTTP/1.1":
            for writer in writers:
                if not writer.is_closing():  # the service ends heads that take too long
                    writer.write(bytes([byte]))
            await asyncio.sleep(1)
    stage.heal()


async def many_connections(stage: Stage) -> None:
    """Hold 5,000 idle connections for 15 s."""
    async with _connections(stage, 5000) as writers:
        stage.notes.append(f"{len(writers)} opened")
        await asyncio.sleep(15)
    stage.heal()


@contextlib.asynccontextmanager
async def _connections(stage: Stage, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    port = httpx.URL(stage.server.url).port
    writers = []
    try:
        for _ in range(count // 100):
            opened = await asyncio.gather(
                *(asyncio.open_connection("127.0.0.1", port) for _ in range(100))
            )
            writers += [writer for _, writer in opened]
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


async def leaving_clients(stage: Stage) -> None:
    """Send 60 batches whose callers disconnect at different stages of the work."""
    headers = {"Authorization": f"Bearer {token()}"}
    for number in range(60):
        async with httpx.AsyncClient(base_url=stage.server.url, headers=headers) as client:
            with contextlib.suppress(httpx.TimeoutException):
                await client.post(
                    "/batch-embed",
                    json={"texts": ["word " * 100] * 20},
                    timeout=httpx.Timeout(0.01 * (number % 20)),
                )
    stage.heal()


async def half_a_core(stage: Stage) -> None:
    """Limit the server to half a core for 20 s."""
    with cgroup("cpu", 50_000, stage.server.process.pid):
        await asyncio.sleep(20)
    stage.heal()


async def full_disk(stage: Stage) -> None:
    """Fill the filesystem of the log, the temporary files and the model store."""
    filler = stage.directory / "disk" / "filler"
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], check=False, capture_output=True
    )
    await asyncio.sleep(8)
    stage.notes.append(
        "right answers while the disk was full: all" if _all_right(stage, 8) else "not all right"
    )
    filler.unlink()
    stage.heal()


def _all_right(stage: Stage, seconds: float) -> bool:
    outcomes = {
        call.outcome for call in stage.load.calls if call.ended > time.monotonic() - seconds
    }
    return outcomes == {"right"}


async def clock_jumps(stage: Stage) -> None:
    """Set the wall clock an hour ahead for 10 s, then back.

    A token with ten minutes left must expire, and be valid again.
    """
    clock = stage.directory / "clock"
    short = token(exp=int(time.time()) + 600)
    seen = [await stage.status(short)]
    for offset in ("+3600s", "+0s"):
        clock.write_text(offset)
        await asyncio.sleep(5)
        seen.append(await stage.status(short))
        fresh = await stage.status(token(iat=int(time.time()) + 3500 * (offset != "+0s")))
        await asyncio.sleep(5)
    stage.notes.append(
        f"token of ten minutes before, during, after: {', '.join(seen)}; fresh one: {fresh}"
    )
    stage.heal()


async def no_key_server(stage: Stage) -> None:
    """Stop the key server for 10 s, and start it with a new key that signs a new token."""
    stage.keys.stop()
    await asyncio.sleep(5)
    meanwhile = await stage.status(stage.keys.sign("second"))
    await asyncio.sleep(5)
    stage.keys.start("first", "second")
    stage.heal()
    status = await stage.status(stage.keys.sign("second"))
    while status != "200" and time.monotonic() < stage.healed + 60:
        await asyncio.sleep(0.2)
        status = await stage.status(stage.keys.sign("second"))
    later = time.monotonic() - stage.healed
    stage.notes.append(f"a new key's token meanwhile: {meanwhile}, {later:.1f} s later: {status}")


async def long_texts(stage: Stage) -> None:
    """Wait: the load is the fault, with texts of 2,048 tokens and 700 MB of memory."""
    await asyncio.sleep(40)
    stage.heal()
    group = _group("memory", stage.server.process.pid)
    peak = int((group / FILES["peak"]).read_text())
    hits = re.search(r"^(?:max )?(\d+)$", (group / FILES["hits"]).read_text(), re.MULTILINE)
    stage.notes.append(
        f"peak {peak / 1e6:.0f} of 700 MB, {hits[1] if hits else 'unknown'} times at the limit"
    )


def _group(controller: str, pid: int) -> Path:
    return CGROUPS / ("" if UNIFIED else controller) / f"drill-{pid}"


@contextlib.contextmanager
def cgroup(controller: str, limit: int, pid: int) -> Iterator[None]:
    """Limit a process and its children, and finally move them back to their own group.

    Args:
        controller: "cpu" or "memory".
        limit: in microseconds per 100 ms, or in bytes.
        pid: of the process.

    Raises:
        OSError: this system has no such controller, or this process may not use it (needs root).
    """
    group = _group(controller, pid)
    if UNIFIED:
        (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
    group.mkdir()
    at = "0::" if UNIFIED else f"{controller}:"
    home = group.parent / Path(f"/proc/{pid}/cgroup").read_text().split(at)[1].split("\n")[0][1:]
    try:
        (group / FILES[controller]).write_text(str(limit))
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            (group / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        for remaining in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (home / "cgroup.procs").write_text(remaining)
        group.rmdir()


@contextlib.contextmanager
def within_700_mb(stage: Stage) -> Iterator[None]:
    """Limit memory from the start, since a page is charged to the group that touches it first."""
    with cgroup("memory", 700_000_000, stage.server.process.pid):
        yield


@contextlib.contextmanager
def few_files(stage: Stage) -> Iterator[None]:
    """Limit open files to 1,024, the default soft limit of most systems."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.prlimit(stage.server.process.pid, resource.RLIMIT_NOFILE, (1024, hard))
    yield


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A tmpfs of 200 MB (needs root)."""
    disk = directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "drill", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
