"""One tarball for a machine without a network: wheels, the Bento with its model, checksums.

python -m dev.bundle TARBALL [MACHINE]
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import bentoml
from bentoml.models import Model

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "run.txt"
# Tags that glibc 2.28 and later supports (Debian 10, Ubuntu 18.10, Oracle Linux 8), newest first.
TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux2014")


def bundle(tarball: Path, machine: str) -> None:
    """Write `tarball` for x86_64 or aarch64."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "embedding-api")
        shutil.copytree(ROOT / "deploy" / "bundle", directory)
        shutil.copy(LOCK, directory)
        _download(directory / "wheels", machine)
        _pack_bento(directory / "bento")
        _write_checksums(directory)
        tarball.parent.mkdir(parents=True, exist_ok=True)
        # Not compressed: wheels are, and weights cannot be.
        with tarfile.open(tarball, "w") as tar:
            tar.add(directory, directory.name, filter=_owned_by_root)


def _download(wheels: Path, machine: str) -> None:
    # This virtual environment has no pip; the interpreter that it was made from has.
    pip = [sys._base_executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)]  # type: ignore[attr-defined]
    platforms = [part for tag in TAGS for part in ("--platform", f"{tag}_{machine}")]
    # pip itself, for machines whose Python has none.
    subprocess.run([*pip, "--no-deps", "pip"], check=True)
    locked = [
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--python-version",
        "3.11",
        *platforms,
    ]
    subprocess.run([*pip, *locked, "-r", str(LOCK)], check=True)


def _pack_bento(target: Path) -> None:
    """Copy the newest Bento, with its model inside as in an image."""
    bento = bentoml.get("embedding-api:latest")
    shutil.copytree(bento.path, target, ignore=shutil.ignore_patterns("__pycache__"))
    [packed] = bento.info.all_models
    model: Model = bentoml.models.get(packed.tag)
    stored = target / "models" / model.tag.name
    shutil.copytree(model.path, stored / str(model.tag.version))
    (stored / "latest").write_text(str(model.tag.version))


def _write_checksums(directory: Path) -> None:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(directory)}\n" for path in files]
    (directory / "SHA256SUMS").write_text("".join(lines))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o555 if member.isdir() else 0o444
    return member


if __name__ == "__main__":
    bundle(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else platform.machine())
