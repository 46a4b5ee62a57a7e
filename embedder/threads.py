"""The number of compute threads."""

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_threads(root: Path = CGROUP_ROOT) -> int:
    """CPUs that this process may use: its cgroup quota, at most its CPU affinity, at least 1.

    A container limited to 2 CPUs on a 64-core host still sees 64 cores, and 64 compute threads with
    a quota of 2 CPUs are throttled most of the time.
    """
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _quota_v2(root) or _quota_v1(root)
    return max(1, min(affinity, math.ceil(quota))) if quota else affinity


def _quota_v2(root: Path) -> float | None:
    """`cpu.max` holds "quota period" in microseconds, or "max period" (kernel cgroup-v2.rst)."""
    quota, _, period = _read(root / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(root: Path) -> float | None:
    """Quota -1 means no limit (kernel cgroup-v1 sched-bwc)."""
    quota = _read(root / "cpu" / "cpu.cfs_quota_us")
    period = _read(root / "cpu" / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
