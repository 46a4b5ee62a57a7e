"""Every supported Python serves the same vectors; tries each one that this machine has.

make test-pythons
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.python_version import FIRST, LAST
from lab.models import prepared
from lab.server import BENTOML, ROOT, SOURCE, serve

TEXT = {"text": "A man is playing a guitar"}
OWN = sys.version_info[:2]
OTHERS = [(3, minor) for minor in range(FIRST[1], LAST[1] + 1) if (3, minor) != OWN]


def found(version: tuple[int, int]) -> Path | None:
    """The interpreter of a version, on the PATH or of pyenv; None when there is none."""
    name = f"python{version[0]}.{version[1]}"
    places = [*map(Path, os.environ["PATH"].split(":")), *Path.home().glob(".pyenv/versions/*/bin")]
    candidates = (place / name for place in places if (place / name).is_file())
    return next((path for path in candidates if runs(path)), None)


def runs(python: Path) -> bool:
    command = [str(python), "-c", "import ensurepip"]
    return not subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


PYTHONS = [python for version in OTHERS if (python := found(version))]


def test_there_is_another_python_to_try() -> None:
    assert PYTHONS, f"install one of {OTHERS}"


@pytest.fixture(scope="module")
def model() -> None:
    """The starter model in the store that `serve` passes on."""
    prepared(None, "fp32")


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.name)
@pytest.mark.usefixtures("model")
def test_it_serves_the_same_vectors(python: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", venv], check=True, timeout=120)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    lock = ROOT / "requirements" / "run.txt"
    subprocess.run([venv / "bin" / "python", *install, "-r", lock], check=True, timeout=900)
    assert vector(venv / "bin" / "bentoml", tmp_path) == vector(BENTOML, tmp_path)


def vector(bentoml: Path, directory: Path) -> list[float]:
    environment = {"MODEL_QUANTIZATION": "fp32"}
    serving = serve(directory / "log", environment, directory=SOURCE, bentoml=bentoml)
    with serving as running, running.client() as client:
        answer = client.post("/embed", json=TEXT).raise_for_status()
    return list(answer.json()["embedding"])
