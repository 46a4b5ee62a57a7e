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
    total, swap_total = _machine(machine)
    for memory, swap in LIMITS:
        if (most := _bytes(cgroup / memory)) is not None:
            limits = (_bytes(cgroup / swap) if swap else 0, swap_total)
            more = [limit for limit in limits if limit is not None]
            if more:
                yield most + min(more)
    if total is not None and swap_total is not None:
        yield total + swap_total


def _machine(machine: Path) -> tuple[int | None, int | None]:
    """Bytes of memory and of swap; None where the system does not say."""
    if not machine.exists():
        return None, None
    lines = dict(line.split(":", 1) for line in machine.read_text().splitlines())
    total, swap = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    return total, swap


def _bytes(path: Path) -> int | None:
    """A limit; None if it is missing, or there is none."""
    text = path.read_text().strip() if path.exists() else "max"
    return None if text == "max" else int(text)
