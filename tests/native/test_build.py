"""The engine's library: its contents, and when it is built."""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from embedder.native import build
from embedder.native.build import BuildError
from tests.native.conftest import LINUX

LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# In place of a compiler: logs its output file, and fails if there is a file `broken`.
COMPILER = """#!/bin/sh
cd "$(dirname "$0")"
[ "$1" != --version ] || { cat version; exit; }
[ ! -e broken ] || { echo "one line"; echo "error: another" >&2; exit 1; }
for last; do :; done
echo "$last" >> calls
echo "$*" > "$last"
"""


@pytest.mark.usefixtures("linux_objects")
@pytest.mark.parametrize("name", LINUX)
def test_kernels_share_no_symbols(name: str) -> None:
    """The linker keeps an arbitrary copy of a weak symbol, and kernels differ by their CPU."""
    units = build.units(name, build.compiler_for(name))
    objects = [str(path) for path in build.compile_units(units, name)]
    symbols = subprocess.run(["nm", *objects], capture_output=True, text=True, check=True).stdout
    assert "kernel_portable" in symbols
    assert not re.findall(r"(?m)^.* [WwVvu] .*$", symbols)


@pytest.mark.usefixtures("linux_objects")
@pytest.mark.parametrize("name", LINUX)
def test_the_library_needs_only_the_c_library_and_exports_only_its_interface(name: str) -> None:
    library = str(build.build(name))
    about = subprocess.run(["readelf", "-dsW", library], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", about.stdout))
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", *LOADERS}
    header = (build.SOURCES / "engine.h").read_text()
    promised = set(re.findall(r"NATIVE_API [\w ]+\W+(native_\w+)\(", header))
    shown = set(re.findall(r"GLOBAL +DEFAULT +\d+ (\w+)", about.stdout))
    assert shown == promised
    assert len(promised) == 6


def test_it_compiles_for_macos() -> None:
    assert build.build("darwin-arm64").read_bytes()[:4] == bytes.fromhex("cffaedfe")  # Mach-O


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, and CXX with the compiler above."""
    shutil.copytree(build.SOURCES, tmp_path / "native", ignore=shutil.ignore_patterns("lib"))
    monkeypatch.setattr(build, "SOURCES", tmp_path / "native")
    monkeypatch.setattr(build, "KERNEL_SOURCE", tmp_path / "native" / "forward.cpp")
    monkeypatch.setattr(build, "LIBRARIES", tmp_path / "lib")
    monkeypatch.setattr(build, "OBJECTS", tmp_path / "objects")
    compiler = tmp_path / "clang++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    (tmp_path / "version").write_text("clang version 19")
    monkeypatch.setenv("CXX", str(compiler))
    return tmp_path


def calls(directory: Path) -> int:
    """How often the compiler has run since the last call."""
    log = directory / "calls"
    count = len(log.read_text().splitlines()) if log.exists() else 0
    log.unlink(missing_ok=True)
    return count


def test_only_what_changed_is_compiled_again(directory: Path) -> None:
    build.build(build.HERE)
    everything = calls(directory)
    assert everything == len(build.units(build.HERE, build.compiler_for(build.HERE))) + 1
    build.build(build.HERE)
    assert calls(directory) == 0
    for name, expected in (
        ("pool.cpp", 2),
        ("rows.h", everything),
        ("families/bert.h", everything),
    ):
        with (directory / "native" / name).open("a") as file:
            file.write("\n")
        build.build(build.HERE)
        assert calls(directory) == expected, name
    (directory / "version").write_text("clang version 20")
    build.build(build.HERE)
    assert calls(directory) == everything
    assert not [path for place in ("lib", "objects") for path in directory.glob(f"{place}/**/.*")]


def test_a_missing_library_is_linked_again(directory: Path) -> None:
    build.build(build.HERE)
    calls(directory)
    build.build(build.HERE).unlink()
    assert build.build(build.HERE).is_file()
    assert calls(directory) == 1


def test_a_compiler_error_is_shown_below_what_to_do_and_the_library_stays(directory: Path) -> None:
    library = build.build(build.HERE)
    before = library.read_text()
    (directory / "native" / "pool.cpp").write_text("changed")
    (directory / "broken").touch()
    with pytest.raises(BuildError) as raised:
        build.build(build.HERE)
    first, *others = str(raised.value).splitlines()
    assert first.startswith("pool.cpp does not compile for pool. Change it, or set CXX")
    assert others == ["error: another"]
    assert library.read_text() == before
    (directory / "broken").unlink()
    build.build(build.HERE)
    assert library.read_text() != before


@pytest.mark.parametrize("says", ["g++ (Debian) 12.2.0", None])
def test_a_compiler_other_than_clang_is_refused(says: str | None, directory: Path) -> None:
    if says:
        (directory / "version").write_text(says)
    else:
        (directory / "clang++").unlink()
    with pytest.raises(BuildError, match=r"CXX=.*: set it to a clang\+\+, or unset it"):
        build.build(build.HERE)


def test_without_a_compiler_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(BuildError, match="run `make install`"):
        build.compiler_for(build.HERE)


def test_a_machine_without_an_engine_is_pointed_to_torch() -> None:
    with pytest.raises(BuildError, match="on windows-AMD64 use MODEL_BACKEND=torch"):
        build.build("windows-AMD64")
