"""An index of packages with the torch that this machine's pip finds, for images that are built."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.server import ROOT

PORT = 18999  # always the same, since layers are kept by the arguments of their build
[TORCH] = [word for word in (ROOT / "Makefile").read_text().split() if word.startswith("torch==")]


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def torch_index(directory: Path, torch: str = TORCH, *options: str) -> Iterator[str]:
    """Serve it from a directory on loopback, and yield its URL. `options` are those of pip."""
    outer = str(Path(sys.executable).resolve())  # the virtual environment has no pip
    command = [outer, "-m", "pip", "download", "--quiet", "--no-deps", *options, torch, "-d"]
    subprocess.run([*command, str(directory / "torch")], check=True, timeout=900)
    handler = partial(_Files, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", PORT), handler) as server:  # fails if the port is taken
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{PORT}"
        server.shutdown()
