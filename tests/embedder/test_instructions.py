from pathlib import Path

import pytest

from embedder.instructions import int8_products_overflow


@pytest.mark.parametrize(
    ("machine", "flags", "overflow"),
    [
        ("x86_64", "fpu avx2", True),
        ("x86_64", "fpu avx2 avx512f avx512bw", True),
        ("x86_64", "fpu avx2 avx_vnni", False),
        ("AMD64", "fpu avx2 avx512f avx512_vnni", False),
        ("aarch64", "fp asimd asimddp", False),
    ],
)
def test_only_x86_without_vnni_overflows(tmp_path: Path, machine: str, flags: str, overflow: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert int8_products_overflow(cpuinfo, machine) is overflow


def test_an_x86_that_does_not_tell_counts_as_one_without(tmp_path: Path) -> None:
    assert int8_products_overflow(tmp_path / "none", "x86_64")
