"""Test programs in C++, linked with the engine and built with sanitizers."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from embedder.native import build

HERE = Path(__file__).parent
CLANG = shutil.which("clang++-19") or "clang++"  # zig's has no AddressSanitizer
# -O1: sixteen lanes in unoptimised code take minutes.
SANITIZE = ("-O1", "-gline-tables-only", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
VARIANTS = {
    "address": ("-fsanitize=address,undefined,fuzzer-no-link",),
    "thread": ("-fsanitize=thread",),
}


def engine_program(
    name: str,
    variant: str,
    directory: Path,
    *,
    kernels: Sequence[str] | None = None,
    link: Sequence[str] = (),
) -> Path:
    """Builds tests/native/`name`.cpp with the whole engine. Objects are kept for the next run.

    Args:
        name: of the program.
        variant: of flags, such as a sanitizer.
        directory: for the program and its objects.
        kernels: those to compile with sanitizers; None for all. The others are not to be run, and
            are taken from the library's objects.
        link: flags for linking, if not those of the variant.
    """
    flags, compiler = (*SANITIZE, *VARIANTS[variant]), build.clang(CLANG)
    source = HERE / f"{name}.cpp"
    wanted = build.units(build.HERE, compiler, flags=flags, variant=variant, programs=[source])
    if kernels is not None:
        others = build.TARGETS[build.HERE].kernels.keys() - set(kernels)
        plain = build.units(build.HERE, build.compiler_for(build.HERE))
        wanted = [one for one in wanted if one.name not in others]
        wanted += [one for one in plain if one.name in others]
    objects = build.compile_units(wanted, f"engine with {variant} sanitizer")
    program = directory / name
    command = [CLANG, *flags, *(link or VARIANTS[variant]), *map(str, objects), "-o", str(program)]
    subprocess.run([*command, "-lm", "-lpthread"], check=True)
    return program


def pool_program(variant: str, directory: Path) -> Path:
    """Builds tests/native/pool_test.cpp with only the thread pool, whose atomics are delayed."""
    program = directory / "pool_test"
    flags = [*build.FLAGS, *SANITIZE, *VARIANTS[variant][:1], f"-I{build.SOURCES}"]
    included = ["-include", str(HERE / "delayed_atomic.h")]
    sources = [str(build.SOURCES / "pool.cpp"), str(HERE / "pool_test.cpp")]
    subprocess.run(
        [CLANG, *flags, *included, *sources, "-o", str(program), "-lpthread"], check=True
    )
    return program


def run(program: Path, *arguments: str, seconds: int) -> None:
    """Runs a program. Fails with its output, or if it is not done after `seconds`."""
    environment = os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"}
    try:
        done = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, errors="replace",
            env=environment, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{program.name} hangs: {error.stderr!r}") from None
    assert done.returncode == 0, done.stdout + done.stderr
