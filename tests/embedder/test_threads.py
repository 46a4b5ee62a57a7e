import os
from pathlib import Path

import pytest

from embedder.threads import available_threads

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("6400000 100000", AFFINITY),
        ("max 100000", AFFINITY),
    ],
)
def test_threads_follow_the_quota_of_cgroup_v2(tmp_path: Path, quota: str, threads: int) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert available_threads(tmp_path) == threads


@pytest.mark.parametrize(("quota", "threads"), [("100000", 1), ("-1", AFFINITY)])
def test_threads_follow_the_quota_of_cgroup_v1(tmp_path: Path, quota: str, threads: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_threads(tmp_path) == threads


def test_without_cgroups_the_affinity_is_used(tmp_path: Path) -> None:
    assert available_threads(tmp_path) == AFFINITY
