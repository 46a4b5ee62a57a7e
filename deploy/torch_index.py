"""An index of packages with the torch that this machine's pip finds, for images that are built."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.served_files import served
from lab.server import ROOT


@contextmanager
def torch_index(directory: Path) -> Iterator[str]:
    """Serve it from a directory on loopback, and yield its URL."""
    [torch] = [
        word for word in (ROOT / "Makefile").read_text().split() if word.startswith("torch==")
    ]
    outer = str(Path(sys.executable).resolve())  # the virtual environment has no pip
    command = [outer, "-m", "pip", "download", "--quiet", "--no-deps", torch, "-d"]
    subprocess.run([*command, str(directory / "torch")], check=True, timeout=900)
    with served(directory) as url:
        yield url
