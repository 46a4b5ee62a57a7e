"""A drill with a damaged model file: the service must refuse to start."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.models import prepared
from lab.server import SOURCE, bare_environment, free_port

TITLE = "damaged model file"
SEEN = r"exit status 1: .*model\.safetensors is damaged \(SHA-256"


def damaged_model() -> dict[str, Any]:
    """The row of the table, with the time until the refusal and its message."""
    stored = prepared(None, "fp32")
    with tempfile.TemporaryDirectory(prefix="drill-") as directory:
        home = Path(directory)
        copy = home / stored.relative_to(os.environ["BENTOML_HOME"])
        shutil.copytree(stored, copy)
        shutil.copy(stored.parent / "latest", copy.parent / "latest")
        with (copy / "model.safetensors").open("r+b") as file:
            file.seek((copy / "model.safetensors").stat().st_size // 2)
            file.write(b"damage")
        began = time.monotonic()
        ended = subprocess.run(
            [str(Path(sys.executable).with_name("bentoml")), "serve", "--port", str(free_port())],
            cwd=SOURCE,
            env=bare_environment() | {"BENTOML_HOME": directory, "MODEL_QUANTIZATION": "fp32"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        seconds = time.monotonic() - began
    said = ended.stderr.strip().splitlines()[-1].replace(directory, "$BENTOML_HOME")
    none = {
        "calls": 0,
        "wrong": 0,
        "lost": 0,
        "refused": 0,
        "longest_stall_s": 0.0,
        "recovered_s": 0.0,
    }
    notes = f"refused to start in {seconds:.1f} s, exit status {ended.returncode}: {said}"
    return {"title": TITLE, **none, "notes": notes}
