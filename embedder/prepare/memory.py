"""How much memory this process may use: of the machine, or of its container."""

from collections.abc import Iterator
from pathlib import Path

from embedder.prepare.errors import MemoryTooSmallError

CGROUP = Path("/sys/fs/cgroup")
# Of cgroup v2, and of v1 as a container sees its own. Bytes, or "max".
LIMITS = (("memory.max", "memory.swap.max"), ("memory/memory.memsw.limit_in_bytes", None))
MACHINE = Path("/proc/meminfo")


def require_memory(needed: int, *, cgroup: Path = CGROUP, machine: Path = MACHINE) -> None:
    """Check the memory that there is, swap included.

    Raises:
        MemoryTooSmallError: it is less than `needed` bytes.
    """
    most = min(_limits(cgroup, machine), default=needed)
    if most < needed:
        raise MemoryTooSmallError(needed, most)


def _limits(cgroup: Path, machine: Path) -> Iterator[int]:
    """Bytes; nothing where the system does not say."""
    for memory, swap in LIMITS:
        if (most := _bytes(cgroup / memory)) is not None:
            more = _bytes(cgroup / swap) if swap else 0
            if more is not None:
                yield most + more
    if machine.exists():
        lines = dict(line.split(":", 1) for line in machine.read_text().splitlines())
        yield sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * 1024


def _bytes(path: Path) -> int | None:
    """A limit; None if it is missing, or there is none."""
    text = path.read_text().strip() if path.exists() else "max"
    return None if text == "max" else int(text)
