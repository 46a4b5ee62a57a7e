"""The image of one architecture: what is in it, how it starts, and that its vectors are the model's own.

    make test-image
    make test-arm64

Runs inside deploy/image/lab.sh, which says in LAB_ARCH which architecture and brings podman.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.random_embeddinggemma import TINY, build
from embedder.prepare.build import load_original
from embedder.prepare.source import locate
from tests.live.server import ROOT, SECRET, assert_nothing_leaked, copy_source, free_port, token

ARCH = os.environ["LAB_ARCH"]
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[ARCH]
BENTOML = str(Path(sys.executable).with_name("bentoml"))
TEXTS = ("A man is playing a guitar", "안녕하세요, 반갑습니다!", "def area(r): return 3.14159 * r ** 2", "word " * 120)
FLOOR = {"int8": 0.98, "fp32": 0.9999}  # cosine to sentence-transformers in fp32
MEMORY = {"amd64": "1g", "arm64": "3g"}[ARCH]  # the emulator keeps a translation of all that it runs
BASE = [
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "all",
    "--memory",
    MEMORY,
    "-e",
    f"SUPABASE_JWT_SECRET={SECRET}",
]


def podman(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return (done.stdout + ("" if check else done.stderr)).strip()


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """MODEL_NAME of the starter model and of a tiny EmbeddingGemma with random weights."""
    return {"starter": None, "gemma": str(build(tmp_path_factory.mktemp("gemma") / "tiny", TINY))}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, names: dict[str, str | None]) -> Path:
    """The model store, both models in both precisions."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o755)
    os.environ |= {"BENTOML_HOME": str(home), "HF_HUB_OFFLINE": "1", "BENTOML_DO_NOT_TRACK": "true"}
    for name in names.values():
        for quantization in FLOOR:
            model = ["--model", name] if name else []
            command = [sys.executable, "download_model.py", *model, "--quantization", quantization]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return home / "models"


def containerize(name: str, *options: str) -> str:
    """The image, made as a user makes it. From `/`: elsewhere BentoML 1.4 refuses a Dockerfile template."""
    command = [BENTOML, "containerize", "embedding-api:latest", "--backend", "podman", "--opt", "format=docker"]
    command += ["--opt", "network=host", "--opt", f"platform=linux/{ARCH}", *options, "-t", name]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return name


@pytest.fixture(scope="session")
def image(store: Path) -> str:
    subprocess.run([BENTOML, "build"], cwd=ROOT, check=True, capture_output=True)
    return containerize("localhost/embedding-api:volume")


@pytest.fixture(scope="session")
def baked(image: str) -> str:
    return containerize("localhost/embedding-api:baked", "--opt", "build-arg=MODEL=baked")


@contextmanager
def container(image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Id and URL of a started container that is ready."""
    port = free_port()
    emulated = ["-e", "QEMU_CPU=neoverse-n1"] if ARCH == "arm64" else []
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    one = podman("run", "-d", "--platform", f"linux/{ARCH}", *BASE, *emulated, *options, image, *listen)
    try:
        started = time.monotonic()
        wait_until_ready(one, f"http://127.0.0.1:{port}")
        print(f"{image} {options[:2]} ready in {time.monotonic() - started:.1f} s")
        yield one, f"http://127.0.0.1:{port}"
        log = podman("logs", one, check=False)
    finally:
        podman("rm", "-f", "-t", "20", one, check=False)
    assert_nothing_leaked(log)
    assert not [word for word in ("SIGILL", "SIGSEGV", "Illegal instruction", "Traceback") if word in log], log


def wait_until_ready(one: str, url: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        running = podman("inspect", "-f", "{{.State.Running}}", one)
        assert running == "true", podman("logs", one, check=False)
        time.sleep(0.1)
    pytest.fail("not ready in 300 s:\n" + podman("logs", one, check=False))


def vectors(url: str) -> np.ndarray:
    headers = {"Authorization": f"Bearer {token()}"}
    answer = httpx.post(f"{url}/batch-embed", json={"texts": TEXTS}, headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text
    return np.asarray(answer.json()["embeddings"])


@pytest.mark.parametrize("quantization", FLOOR)
@pytest.mark.parametrize("model", ["starter", "gemma"])
def test_vectors_are_those_of_the_original(
    image: str, store: Path, names: dict[str, str | None], model: str, quantization: str
) -> None:
    chosen = ["-e", f"MODEL_NAME={names[model] or 'all-MiniLM-L6-v2'}", "-e", f"MODEL_QUANTIZATION={quantization}"]
    with container(image, *chosen, "-v", f"{store}:/bentoml/models:ro") as (one, url):
        machine = podman("exec", one, "python", "-c", "import platform; print(platform.machine())")
        found = vectors(url)
    expected = load_original(locate(names[model])).encode(list(TEXTS), normalize_embeddings=True)
    cosines = (found * expected).sum(axis=1)
    print(model, quantization, machine, "cosines", cosines.round(5))
    assert machine == MACHINE
    assert cosines.min() >= FLOOR[quantization]


def test_an_image_with_its_model_needs_no_volume(baked: str) -> None:
    with container(baked) as (_, url):
        about = httpx.get(f"{url}/health", timeout=30).json()
        assert about["quantization"] == "int8"
        assert vectors(url).shape[0] == len(TEXTS)


def test_it_listens_on_port_8000_and_says_that_it_is_well(baked: str) -> None:
    """With a loopback of its own and no other network."""
    one = podman("run", "-d", "--platform", f"linux/{ARCH}", *BASE, "--network", "none", baked)
    try:
        deadline = time.monotonic() + 300
        while subprocess.run(["podman", "healthcheck", "run", one], capture_output=True).returncode:
            assert time.monotonic() < deadline, podman("logs", one, check=False)
            assert podman("inspect", "-f", "{{.State.Running}}", one) == "true", podman("logs", one, check=False)
            time.sleep(1)
    finally:
        podman("rm", "-f", "-t", "20", one, check=False)


def test_without_a_model_it_says_what_to_do(image: str) -> None:
    said = podman("run", "--rm", "--platform", f"linux/{ARCH}", *BASE, image, check=False)
    assert "-v $HOME/bentoml/models:/bentoml/models:ro" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_what_the_image_says_of_itself(image: str) -> None:
    [about] = json.loads(podman("image", "inspect", image))
    config = about["Config"]
    assert about["Architecture"] == ARCH
    assert config["User"] == "10001:10001"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert {"BENTOML_DO_NOT_TRACK=true", "ORT_DISABLE_TELEMETRY=1"} <= set(config["Env"])
    assert about["Healthcheck" if "Healthcheck" in about else "HealthCheck"]["Interval"]


def test_the_image_is_small_and_a_change_of_code_smaller(image: str) -> None:
    layers = json.loads(podman("history", "--format", "json", image))
    print(podman("history", image))
    total = sum(layer["size"] for layer in layers)
    sizes = [layer["size"] for layer in layers]  # the newest first; the largest is the packages'
    code = sum(sizes[: sizes.index(max(sizes))])
    print(f"{ARCH}: {total / 1e6:.0f} MB in all, code {code / 1e6:.2f} MB")
    assert 100e6 < total <= 480e6
    assert 0 < code < 5e6


def test_nothing_but_the_service_is_in_the_image(image: str) -> None:
    listed = podman(
        "run", "--rm", "--platform", f"linux/{ARCH}", "--entrypoint", "python", image, "-c",
        "import os; print(*(os.path.join(d, f) for r in ('/bento', '/bentoml', '/packages') "
        "for d, _, fs in os.walk(r) for f in fs), sep='\\n')",
    ).splitlines()  # fmt: skip
    assert not [one for one in listed if one.startswith(("/bento/models", "/bentoml"))]
    names = {Path(one).name for one in listed if one.startswith("/bento/")}
    assert {"service.py", "quota.lua", "bento.yaml", "LICENSE"} <= names
    assert not names & {".env", "download_model.py", "conftest.py", "Makefile"}
    top = {one.split("/")[2] for one in listed if one.startswith("/packages/")}
    assert not top & {"torch", "transformers", "sentence_transformers", "onnx", "pytest", "pip"}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of a real registry and where it keeps what it gets."""
    port, data, config = free_port(), tmp_path / "data", tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
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


def test_a_registry_gets_only_what_changed(image: str, registry: tuple[str, Path], tmp_path: Path) -> None:
    address, data = registry
    source = copy_source(tmp_path / "source")
    with (source / "service.py").open("a") as file:
        file.write("# changed\n")
    subprocess.run([BENTOML, "build"], cwd=source, check=True, capture_output=True)
    sizes = []
    for one in (image, containerize("localhost/embedding-api:changed")):
        podman("push", "--tls-verify=false", one, f"{address}/{one.removeprefix('localhost/')}")
        sizes.append(sum(path.stat().st_size for path in data.rglob("data")))
    print(f"{ARCH}: {sizes[0] / 1e6:.0f} MB pushed, {(sizes[1] - sizes[0]) / 1e6:.2f} MB after a change of code")
    assert 0 < sizes[1] - sizes[0] < 5e6
    podman("rmi", "localhost/embedding-api:changed")
    pulled = podman("pull", "--tls-verify=false", f"{address}/embedding-api:changed")
    assert json.loads(podman("image", "inspect", pulled))[0]["Architecture"] == ARCH
