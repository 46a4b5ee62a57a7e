"""Conditions under which a process shares its machine: spinners, a quota, an event loop.

    python -m benchmarks.neighbours spin CORE SECONDS
    python -m benchmarks.neighbours serve SECONDS

Each process ends after SECONDS, even if its parent has ended.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

LONGEST = 300  # seconds
CPUS = 1.5
PERIOD = 100_000  # microseconds of a period of the quota
GROUPS = Path("/sys/fs/cgroup")
REQUESTS = 500  # the most per second of the event loop
REQUEST, ANSWER = b"ping\n", b"pong\n"


@contextmanager
def quiet(_pid: int) -> Iterator[None]:
    yield


@contextmanager
def spinners(_pid: int) -> Iterator[None]:
    """Run a busy process on every core."""
    with ExitStack() as stack:
        for core in os.sched_getaffinity(0):
            stack.enter_context(_process("spin", str(core), str(LONGEST)))
        time.sleep(0.2)
        yield


@contextmanager
def event_loop(_pid: int) -> Iterator[None]:
    """Run an asyncio server on the same cores that answers REQUESTS per second."""
    with _process("serve", str(LONGEST)):
        time.sleep(0.5)
        yield


@contextmanager
def quota(pid: int) -> Iterator[None]:
    """Limit a process to CPUS CPUs by a cgroup, and finally move it back. Needs root.

    Raises:
        OSError: the cgroup cannot be made.
    """
    first = GROUPS / "cpu" if (GROUPS / "cpu").exists() else GROUPS
    line = next(
        line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        if first == GROUPS or "cpu" in line.split(":")[1].split(",")
    )  # fmt: skip
    before = first / line.split(":")[2].lstrip("/")
    group = first / "embedding-api-benchmark"
    group.mkdir(exist_ok=True)
    try:
        if first == GROUPS:
            (first / "cgroup.subtree_control").write_text("+cpu")
            (group / "cpu.max").write_text(f"{CPUS * PERIOD:.0f} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(f"{CPUS * PERIOD:.0f}")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        (before / "cgroup.procs").write_text(str(pid))
        group.rmdir()


@contextmanager
def _process(*arguments: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", "benchmarks.neighbours", *arguments]) as process:
        try:
            yield
        finally:
            process.kill()


def _spin(core: int, seconds: float) -> None:
    os.sched_setaffinity(0, {core})
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def _serve(seconds: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() == REQUEST:
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        writer.write(REQUEST)
        await reader.readline()
        await asyncio.sleep(1 / REQUESTS)
    writer.close()


if __name__ == "__main__":
    if sys.argv[1] == "spin":
        _spin(int(sys.argv[2]), float(sys.argv[3]))
    else:
        asyncio.run(_serve(float(sys.argv[2])))
