"""The images, the model store and a registry, for the tests of the image."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.image.containers import ARCH, NATIVE, QUANTIZATIONS, podman
from lab.random_embeddinggemma import TINY, build
from lab.server import ROOT, copy_source, free_port
from settings import VERSION

TARGET, TAG = {"amd64": ("image", "latest"), "arm64": ("image-arm64", f"{VERSION}-arm64")}[ARCH]
BENTOML = str(Path(sys.executable).with_name("bentoml"))
PREPARE = """
from lab.models import prepared, random_embeddinggemma
name = str(random_embeddinggemma())
directory = prepared(name, "int8")
print(name, directory.parents[1], sep="\\n")
"""


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """MODEL_NAME of the starter model and of a tiny EmbeddingGemma with random weights."""
    return {"starter": None, "gemma": str(build(tmp_path_factory.mktemp("gemma") / "tiny", TINY))}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, names: dict[str, str | None]) -> Path:
    """A model store with both models in both precisions."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o755)
    os.environ |= {"BENTOML_HOME": str(home), "HF_HUB_OFFLINE": "1", "BENTOML_DO_NOT_TRACK": "true"}
    for name in names.values():
        for quantization in QUANTIZATIONS:
            model = ["--model", name] if name else []
            command = [sys.executable, "download_model.py", *model, "--quantization", quantization]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
    return home / "models"


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Figures that the tests measure, written to a file when all tests pass.

    Not written with LAB, since its store may already hold the images.
    """
    figures: dict[str, Any] = {"architecture": ARCH, "emulated": not NATIVE}
    yield figures
    print(figures)
    if not request.session.testsfailed and "LAB" not in os.environ:
        Path(__file__).with_name(f"{ARCH}.json").write_text(json.dumps(figures, indent=2) + "\n")


def run(command: list[str], environment: Mapping[str, str] = os.environ) -> str:
    """Run a command in the project's directory and return its output."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_image(name: str, *options: str) -> str:
    """Make the image with the documented command, and tag it with `name`."""
    environment = os.environ | {"MODEL_NAME": "all-MiniLM-L6-v2", "MODEL_QUANTIZATION": "int8"}
    run(
        ["make", TARGET, "ENGINE=podman", "OPTIONS=--opt network=host", *options],
        environment,
    )
    podman("tag", f"localhost/embedding-api:{TAG}", name)
    return name


@pytest.fixture(scope="session")
def image(store: Path) -> str:
    return make_image("localhost/embedding-api:volume", "MODEL=volume")


@pytest.fixture(scope="session")
def baked(image: str) -> str:
    return make_image("localhost/embedding-api:baked", "MODEL=baked", "-o", "build")


@pytest.fixture(scope="session")
def changed(baked: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of changed code, built with a umask that hides files from other users."""
    source = copy_source(tmp_path_factory.mktemp("changed") / "source")
    with (source / "service.py").open("a") as file:
        file.write("# changed\n")
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    command = [BENTOML, "build"]
    subprocess.run(command, cwd=source, check=True, capture_output=True, umask=0o077, timeout=300)
    return make_image("localhost/embedding-api:changed", "MODEL=volume", "-o", "build")


@pytest.fixture(scope="session")
def full_size() -> tuple[str, str]:
    """MODEL_NAME of EmbeddingGemma's architecture at full size, and a store that has it in int8."""
    name, models = run([sys.executable, "-c", PREPARE]).splitlines()[-2:]
    return name, models


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a real registry, and the directory of its data."""
    port = free_port()
    data = tmp_path / "data"
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=log
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/v2/")
        yield f"127.0.0.1:{port}", data
    finally:
        process.terminate()
        process.wait(10)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"{url} does not answer")
