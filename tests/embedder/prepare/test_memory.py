"""How much memory a preparation may use."""

from pathlib import Path

import pytest

from embedder.prepare.errors import MemoryTooSmallError
from embedder.prepare.memory import require_memory

GB = 10**9
MEMINFO = "MemTotal:     4000000 kB\nMemFree:      1000 kB\nSwapTotal:    2000000 kB\n"
SWAP = 2_000_000 * 1024


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 6_000_000 * 1024),  # the machine alone
        ({"memory.max": "max", "memory.swap.max": "max"}, 6_000_000 * 1024),
        ({"memory.max": f"{2 * GB}", "memory.swap.max": "0"}, 2 * GB),
        ({"memory.max": f"{2 * GB}", "memory.swap.max": f"{GB}"}, 3 * GB),
        ({"memory.max": f"{2 * GB}", "memory.swap.max": "max"}, 2 * GB + SWAP),
        ({"memory.max": f"{2 * GB}", "memory.swap.max": f"{3 * GB}"}, 2 * GB + SWAP),
        ({"memory/memory.memsw.limit_in_bytes": f"{2 * GB}"}, 2 * GB),
        ({"memory/memory.memsw.limit_in_bytes": f"{2**63 - 4096}"}, 6_000_000 * 1024),
    ],
)
def test_it_is_the_least_of_container_and_machine_with_swap(
    tmp_path: Path, files: dict[str, str], limit: int
) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text(MEMINFO)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    require_memory(limit, cgroup=tmp_path, machine=machine)
    with pytest.raises(MemoryTooSmallError, match="PREPARE_MEMORY") as raised:
        require_memory(limit + 1, cgroup=tmp_path, machine=machine)
    assert raised.value.limit == limit


def test_a_system_that_says_nothing_refuses_nothing(tmp_path: Path) -> None:
    require_memory(10**15, cgroup=tmp_path, machine=tmp_path / "none")
