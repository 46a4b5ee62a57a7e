"""Compiles the library of the engine into embedder/native/lib/SYSTEM-MACHINE.

    python -m embedder.native.build [--target NAME ... | --all]

The compiler is the clang of the wheel `ziglang`, which compiles for every target. For this machine,
CXX may name another clang++. Objects are kept in build/native and compiled again when a source, a
flag or the compiler changes.
"""

import argparse
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

SOURCES = Path(__file__).parent
LIBRARIES = SOURCES / "lib"
OBJECTS = SOURCES.parent.parent / "build" / "native"
KERNEL_SOURCE = SOURCES / "forward.cpp"  # compiled once for each kernel
# -ffp-contract=off: a fused multiply-add has other bits, and not every CPU has one.
FLAGS = (
    "-std=c++17", "-fPIC", "-fno-exceptions", "-fno-rtti", "-ffp-contract=off",
    "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi",
)  # fmt: skip
RELEASE = ("-O3", "-g0")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A system and a machine, with the kernels of its library.

    Attributes:
        triple: in zig's notation, with the oldest glibc that the library works with.
        library: file name.
        cpu: what every CPU of the machine has: a level, then features after plus signs.
        kernels: by name, the CPU that each is compiled for.
        flags: by kernel, additional flags.
    """

    triple: str
    library: str
    cpu: str
    kernels: Mapping[str, str]
    flags: Mapping[str, Sequence[str]]


_X86_64 = {
    "avx512vnni": "x86_64_v4+avx512vnni",
    "avxvnni": "x86_64_v3+avxvnni",
    "avx2": "x86_64_v3",
    "portable": "x86_64",
}
_ARM64 = {"i8mm": "generic+dotprod+i8mm", "dotprod": "generic+dotprod", "portable": "generic"}

# By system and machine as Python's `platform` names them. Debian 10 and Oracle Linux 8 have glibc
# 2.28.
TARGETS = {
    "linux-x86_64": Target(
        triple="x86_64-linux-gnu.2.28",
        library="libembedder.so",
        cpu="x86_64",
        kernels=_X86_64,
        # clang prefers 256 bits, because 512 bits lower the clock of Intel CPUs before Ice Lake.
        flags={"avx512vnni": ["-mprefer-vector-width=512"]},
    ),
    "linux-aarch64": Target(
        triple="aarch64-linux-gnu.2.28",
        library="libembedder.so",
        cpu="generic",
        kernels=_ARM64,
        flags={},
    ),
    "darwin-arm64": Target(
        triple="aarch64-macos",
        library="libembedder.dylib",
        cpu="generic",
        kernels=_ARM64,
        flags={},
    ),
}
HERE = f"{platform.system().lower()}-{platform.machine()}"


class BuildError(Exception):
    """A build failed. The first line says what to do."""


@dataclass(frozen=True)
class Compiler:
    """How one target is compiled."""

    command: tuple[str, ...]
    version: str
    is_zig: bool

    def cpu(self, cpu: str) -> list[str]:
        """Flags for the CPU of a target or kernel."""
        if self.is_zig:
            return [f"-mcpu={cpu}"]
        level, *features = cpu.split("+")
        if level == "generic":
            return ["-march=" + "+".join(["armv8-a", *features])]
        return [f"-march={level.replace('_', '-')}", *(f"-m{feature}" for feature in features)]


def compiler_for(name: str) -> Compiler:
    """The compiler for a target.

    Raises:
        BuildError: there is none.
    """
    if (command := os.environ.get("CXX")) and name == HERE:
        return clang(command)
    try:
        version = metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        raise BuildError("No compiler: run `make install`, or set CXX to a clang++.") from None
    # By default zig adds checks of undefined behaviour, and their run-time library.
    options = ("-target", TARGETS[name].triple, "-fno-sanitize=all")
    return Compiler((sys.executable, "-m", "ziglang", "c++", *options), f"ziglang {version}", True)


def clang(command: str) -> Compiler:
    """The clang that a shell runs for `command`.

    Raises:
        BuildError: it does not run, or is not clang.
    """
    words = tuple(shlex.split(command))
    try:
        done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise BuildError(f"CXX={command} does not run: set it to a clang++, or unset it.") from None
    if "clang" not in done.stdout:  # the code of g++ 12 is 1.8 times slower
        raise BuildError(f"CXX={command} is not clang: set it to a clang++, or unset it.")
    return Compiler(words, done.stdout, False)


@dataclass(frozen=True)
class Unit:
    """One object file and the command that compiles it."""

    name: str
    command: tuple[str, ...]
    source: Path
    object: Path


def units(
    name: str,
    compiler: Compiler,
    *,
    flags: Sequence[str] = RELEASE,
    variant: str = "",
    programs: Sequence[Path] = (),
) -> list[Unit]:
    """The object files of a target's library. Each is named after a hash of all its inputs.

    Args:
        name: one of TARGETS.
        compiler: for that target.
        flags: of a release, or of a test build.
        variant: the directory of objects that have other flags than a release.
        programs: additional sources.
    """
    target = TARGETS[name]
    common = [*compiler.command, *FLAGS, *flags, f"-I{SOURCES}"]
    headers = _digest(sorted(SOURCES.rglob("*.h")), compiler.version)

    def unit(label: str, source: Path, options: Iterable[str]) -> Unit:
        command = (*common, *options, "-c", str(source))
        key = _digest([source, *sorted(source.parent.glob("*.h"))], headers, *command)
        return Unit(label, command, source, OBJECTS / name / variant / f"{label}-{key[:16]}.o")

    made = [
        unit(kernel, KERNEL_SOURCE, [*compiler.cpu(cpu), *target.flags.get(kernel, ()),
             f"-DKERNEL={kernel}", f'-DKERNEL_HEADER="kernels/{kernel}.h"'])
        for kernel, cpu in target.kernels.items()
    ]  # fmt: skip
    # After the kernels, which take longest to compile.
    plain = [path for path in sorted(SOURCES.glob("*.cpp")) if path != KERNEL_SOURCE]
    return made + [unit(path.stem, path, compiler.cpu(target.cpu)) for path in (*plain, *programs)]


def _digest(files: Iterable[Path], *texts: str) -> str:
    digest = hashlib.sha256("\0".join(texts).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compile_units(wanted: Sequence[Unit], title: str) -> list[Path]:
    """Compile the units that are missing, one per core at a time, and return all objects.

    Raises:
        BuildError: one does not compile.
    """
    missing = [unit for unit in wanted if not unit.object.exists()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        jobs = [pool.submit(_compile, unit) for unit in missing]
        _progress(title, 0, len(jobs))
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                job.result()
                _progress(title, done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [unit.object for unit in wanted]


def _compile(unit: Unit) -> None:
    unit.object.parent.mkdir(parents=True, exist_ok=True)
    for old in unit.object.parent.glob(f"{unit.name}-*.o"):
        old.unlink(missing_ok=True)
    failure = f"{unit.source.name} does not compile for {unit.name}."
    _run([*unit.command, "-o"], unit.object, failure)


def _progress(title: str, done: int, count: int) -> None:
    """One line, updated in place on a terminal; elsewhere printed only when all are done."""
    line = f"{title}: {done} of {count} parts compiled"
    if sys.stderr.isatty():
        print(f"\r{line}", end="\n" if done == count else "", file=sys.stderr, flush=True)
    elif done == count:
        print(line, file=sys.stderr, flush=True)


def _run(command: Sequence[str], output: Path, failure: str) -> None:
    """Run `command OUTPUT`. The output is replaced only on success. Raises BuildError."""
    partial = output.with_name(f".{os.getpid()}-{output.name}")
    try:
        done = subprocess.run([*command, str(partial)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{failure} Change it, or set CXX to another clang++.\n{done.stderr}")
        print(done.stderr, end="", file=sys.stderr)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def build(name: str) -> Path:
    """The library of a target, compiled if necessary.

    Raises:
        BuildError: it cannot be compiled.
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise BuildError(f"The engine runs on {known}: on {name} use MODEL_BACKEND=torch.")
    library, key_file = LIBRARIES / name / TARGETS[name].library, LIBRARIES / name / "key"
    compiler = compiler_for(name)
    wanted = units(name, compiler)
    link = _link_command(name, compiler)
    key = _digest([], *link, *(unit.object.name for unit in wanted))
    if library.exists() and key_file.exists() and key_file.read_text() == key:
        return library
    objects = compile_units(wanted, f"engine for {name}")
    library.parent.mkdir(parents=True, exist_ok=True)
    libraries = ("-lm", "-lpthread")
    _run([*link, *map(str, objects), *libraries, "-o"], library, f"{library.name} does not link.")
    key_file.write_text(key)
    return library


def _link_command(name: str, compiler: Compiler) -> list[str]:
    # Without the C++ library, which the sources do not use, and only with the symbols of engine.h.
    options = ["-shared", "-nostdlib++", "-s"]
    if name.startswith("linux"):
        options.append("-Wl,-z,defs")  # undefined symbols fail here, not when it is loaded
    if name.startswith("linux") and not compiler.is_zig:
        options.append("-static-libgcc")  # for conversions of 16-bit floats on CPUs without them
    return [*compiler.command, *options]


def main() -> int:
    """Compile for the targets of the command line; returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m embedder.native.build")
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be given again")
    parser.add_argument("--all", action="store_true", help="every target")
    arguments = parser.parse_args()
    try:
        for name in TARGETS if arguments.all else arguments.target or [HERE]:
            build(name)
    except BuildError as error:
        print(f"embedding-api: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
