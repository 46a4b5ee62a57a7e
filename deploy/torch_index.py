"""An index of packages with the torch that this machine's pip finds, for images that are built."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.server import ROOT

PORT = 18999  # always the same, since layers are kept by the arguments of their build


[TORCH] = [word for word in (ROOT / "Makefile").read_text().split() if word.startswith("torch==")]


@contextmanager
def torch_index(directory: Path, torch: str = TORCH, *options: str) -> Iterator[str]:
    """Serve it from a directory on loopback, and yield its URL. `options` are those of pip."""
    outer = str(Path(sys.executable).resolve())  # the virtual environment has no pip
    command = [outer, "-m", "pip", "download", "--quiet", "--no-deps", *options, torch, "-d"]
    subprocess.run([*command, str(directory / "torch")], check=True, timeout=900)
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(PORT), "--bind", "127.0.0.1"],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.terminate()
        server.wait(30)
