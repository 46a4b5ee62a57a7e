"""The image of one architecture: what is in it, how it starts, and that its vectors are the model's own.

    make test-image
    make test-arm64

Runs inside deploy/image/lab.sh, which says in LAB_ARCH which architecture and brings podman. Writes what was measured
to deploy/image/ARCH.json.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedder.prepare.build import load_original
from embedder.prepare.source import locate
from lab.random_embeddinggemma import TINY, build
from lab.server import ROOT, SECRET, assert_nothing_leaked, copy_source, free_port, token
from settings import VERSION

ARCH = os.environ["LAB_ARCH"]
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[ARCH]
NATIVE = platform.machine() == MACHINE
TARGET, TAG = {"amd64": ("image", "latest"), "arm64": ("image-arm64", f"{VERSION}-arm64")}[ARCH]
BENTOML = str(Path(sys.executable).with_name("bentoml"))
TEXTS = (
    "A man is playing a guitar",
    "안녕하세요, 반갑습니다!",
    "def area(r): return 3.14159 * r ** 2",
    "word " * 120,
)
FLOOR = {"int8": 0.98, "fp32": 0.9999}  # cosine to sentence-transformers in fp32
CRASHES = (
    "SIGILL",
    "SIGSEGV",
    "Illegal instruction",
    "Segmentation fault",
    "uncaught target signal",
    "Traceback",
)
MEMORY = {"amd64": "1g", "arm64": "3g"}[
    ARCH
]  # the emulator keeps a translation of all that it runs
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
LOAD_SECONDS, CALLERS = 30, 8
# kB that the processes of a container have had in memory at their largest, this one apart: more than they had at once.
PEAK = r"""
import os, pathlib, re
files = [path for path in pathlib.Path("/proc").glob("[0-9]*/status") if path.parent.name != str(os.getpid())]
print(sum(int(kb) for path in files for kb in re.findall(r"VmHWM:\s+(\d+)", path.read_text())))
"""
PREPARE = """
from lab.models import prepared, random_embeddinggemma
name = str(random_embeddinggemma())
directory = prepared(name, "int8")
print(name, directory.parents[1], sep="\\n")
"""


def podman(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, check=False, timeout=600
    )
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
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
    return home / "models"


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the tests measured; a file when all have passed. A lab that is used again says nothing of an empty store."""
    figures: dict[str, Any] = {"architecture": ARCH, "emulated": not NATIVE}
    yield figures
    print(figures)
    if not request.session.testsfailed and "LAB" not in os.environ:
        Path(__file__).with_name(f"{ARCH}.json").write_text(json.dumps(figures, indent=2) + "\n")


def make_image(name: str, *options: str) -> str:
    """The image by the command that README gives, under a name of its own."""
    environment = os.environ | {"MODEL_NAME": "all-MiniLM-L6-v2", "MODEL_QUANTIZATION": "int8"}
    command = ["make", TARGET, "ENGINE=podman", "OPTIONS=--opt network=host", *options]
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
    """The image of changed code, from somebody whose umask hides files from all others."""
    source = copy_source(tmp_path_factory.mktemp("changed") / "source")
    with (source / "service.py").open("a") as file:
        file.write("# changed\n")
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    command = [BENTOML, "build"]
    subprocess.run(command, cwd=source, check=True, capture_output=True, umask=0o077, timeout=300)
    return make_image("localhost/embedding-api:changed", "MODEL=volume", "-o", "build")


@dataclass(frozen=True)
class Container:
    """A started container that is ready."""

    id: str
    url: str
    ready_after: float  # s


@contextmanager
def container(image: str, *options: str) -> Iterator[Container]:
    port = free_port()
    emulated = [] if NATIVE else ["-e", "QEMU_CPU=neoverse-n1"]
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    started = time.monotonic()
    one = podman(
        "run", "-d", "--platform", f"linux/{ARCH}", *BASE, *emulated, *options, image, *listen
    )
    try:
        wait_until_ready(one, f"http://127.0.0.1:{port}")
        ready_after = time.monotonic() - started
        print(f"{image} {options[:2]} ready in {ready_after:.1f} s")
        yield Container(one, f"http://127.0.0.1:{port}", ready_after)
        log = podman("logs", one, check=False)
    finally:
        podman("rm", "-f", "-t", "20", one, check=False)
    assert_nothing_leaked(log)
    assert not [word for word in CRASHES if word in log], log


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


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {token()}"}, timeout=300)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def vectors(url: str) -> np.ndarray:
    return np.asarray(post(f"{url}/batch-embed", {"texts": TEXTS})["embeddings"])


@pytest.mark.parametrize("quantization", FLOOR)
@pytest.mark.parametrize("model", ["starter", "gemma"])
def test_vectors_are_those_of_the_original(
    image: str,
    store: Path,
    names: dict[str, str | None],
    measured: dict[str, Any],
    model: str,
    quantization: str,
) -> None:
    chosen = [
        "-e",
        f"MODEL_NAME={names[model] or 'all-MiniLM-L6-v2'}",
        "-e",
        f"MODEL_QUANTIZATION={quantization}",
    ]
    with container(image, *chosen, "-v", f"{store}:/bentoml/models:ro") as running:
        machine = podman(
            "exec", running.id, "python", "-c", "import platform; print(platform.machine())"
        )
        found = vectors(running.url)
        alone = post(f"{running.url}/embed", {"text": TEXTS[0]})["embedding"]
    expected = load_original(locate(names[model])).encode(list(TEXTS), normalize_embeddings=True)
    cosines = (found * expected).sum(axis=1)
    print(model, quantization, machine, "cosines", cosines.round(5))
    assert machine == MACHINE
    assert cosines.min() >= FLOOR[quantization]
    np.testing.assert_allclose(alone, found[0], atol=1e-6)
    measured.setdefault("smallest_cosine", {})[f"{model} {quantization}"] = round(
        float(cosines.min()), 5
    )
    measured["seconds_from_nothing_to_proven"] = round(time.time() - int(os.environ["LAB_STARTED"]))


@pytest.mark.skipif(NATIVE, reason="a real CPU is what it is")
def test_the_emulated_cpu_has_what_a_neoverse_n1_has_and_no_more(image: str, store: Path) -> None:
    with container(image, "-v", f"{store}:/bentoml/models:ro") as running:
        cpu = podman("exec", running.id, "cat", "/proc/cpuinfo")
    about = dict(line.split(":", 1) for line in cpu.splitlines() if ":" in line)
    about = {name.strip(): value.strip() for name, value in about.items()}
    assert about["CPU part"] == "0xd0c"
    features = set(about["Features"].split())
    assert "asimddp" in features  # SDOT and UDOT, which int8 is computed with
    assert not features & {"i8mm", "sve", "bf16"}


@pytest.fixture(scope="session")
def full_size() -> tuple[str, str]:
    """MODEL_NAME of EmbeddingGemma's architecture at full size, and the store that has it in int8: the benchmarks'."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name, models = done.stdout.splitlines()[-2:]
    return name, models


@pytest.mark.skipif(not NATIVE, reason="emulation shows neither time nor memory")
def test_a_model_of_embeddinggemmas_size_is_soon_ready_and_small_under_load(
    image: str, full_size: tuple[str, str], measured: dict[str, Any]
) -> None:
    name, models = full_size
    lengths = (16, 64, 256, 2000)
    with container(
        image,
        "-e",
        f"MODEL_NAME={name}",
        "-e",
        "RATE_LIMIT_PER_MIN=1000000",
        "-v",
        f"{models}:/bentoml/models:ro",
    ) as running:
        end = time.monotonic() + LOAD_SECONDS

        def call_until_the_end(caller: int) -> int:
            calls = 0
            while time.monotonic() < end:
                post(
                    f"{running.url}/embed",
                    {"text": "word " * lengths[(caller + calls) % len(lengths)]},
                )
                calls += 1
            return calls

        with ThreadPoolExecutor(CALLERS) as callers:
            calls = sum(callers.map(call_until_the_end, range(CALLERS)))
        peak = int(podman("exec", running.id, "python", "-c", PEAK)) * 1024
    measured["full_size_model"] = {
        "seconds_to_ready": round(running.ready_after, 1),
        "peak_mb_under_load": round(peak / 1e6),
        "calls": calls,
    }
    print(measured["full_size_model"])
    assert calls > CALLERS
    assert running.ready_after <= 10
    assert 100e6 < peak <= 700e6


def test_an_image_with_its_model_needs_no_volume(baked: str) -> None:
    with container(baked) as running:
        about = httpx.get(f"{running.url}/health", timeout=30).json()
        assert about["quantization"] == "int8"
        assert vectors(running.url).shape[0] == len(TEXTS)


def test_it_listens_on_port_8000_and_says_that_it_is_well(baked: str) -> None:
    """With a loopback of its own and no other network."""
    one = podman("run", "-d", "--platform", f"linux/{ARCH}", *BASE, "--network", "none", baked)
    try:
        deadline = time.monotonic() + 300
        check = ["podman", "healthcheck", "run", one]
        while subprocess.run(check, capture_output=True, timeout=60).returncode:
            assert time.monotonic() < deadline, podman("logs", one, check=False)
            assert podman("inspect", "-f", "{{.State.Running}}", one) == "true", podman(
                "logs", one, check=False
            )
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
    assert "BENTOML_DO_NOT_TRACK=true" in config["Env"]
    assert about["Healthcheck" if "Healthcheck" in about else "HealthCheck"]["Interval"]


def test_the_image_is_small_and_a_change_of_code_smaller(
    image: str, measured: dict[str, Any]
) -> None:
    layers = json.loads(podman("history", "--format", "json", image))
    print(podman("history", image))
    total = sum(layer["size"] for layer in layers)
    sizes = [layer["size"] for layer in layers]  # the newest first; the largest is the packages'
    code = sum(sizes[: sizes.index(max(sizes))])
    print(f"{ARCH}: {total / 1e6:.0f} MB in all, code {code / 1e6:.2f} MB")
    measured["megabytes"] = round(total / 1e6)
    measured["layers"] = [
        {
            "megabytes": round(layer["size"] / 1e6, 2),
            "made_by": layer.get("CreatedBy", "").removeprefix("/bin/sh -c ")[:80],
        }
        for layer in layers
        if layer["size"]
    ]
    assert 100e6 < total <= 400e6
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
    assert not top & {
        "torch",
        "transformers",
        "sentence_transformers",
        "onnxruntime",
        "ziglang",
        "pytest",
        "pip",
    }
    native = [one for one in listed if one.startswith("/bento/src/embedder/native/")]
    assert native == [f"/bento/src/embedder/native/lib/linux-{MACHINE}/libembedder.so"]


def test_a_strict_umask_hides_no_file_from_the_service(changed: str) -> None:
    hidden = podman(
        "run", "--rm", "--platform", f"linux/{ARCH}", "--entrypoint", "python", changed, "-c",
        "import os; print(*(one for d, ds, fs in os.walk('/bento') for one in (os.path.join(d, f) for f in ds + fs) "
        "if not os.access(one, os.R_OK)), os.path.getsize('/bento/src/service.py') > 0)",
    )  # fmt: skip
    assert hidden == "True"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of a real registry and where it keeps what it gets."""
    port, data, config = free_port(), tmp_path / "data", tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
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


def test_a_registry_gets_only_what_changed(
    image: str, changed: str, registry: tuple[str, Path]
) -> None:
    address, data = registry
    sizes = []
    for one in (image, changed):
        podman("push", "--tls-verify=false", one, f"{address}/{one.removeprefix('localhost/')}")
        sizes.append(sum(path.stat().st_size for path in data.rglob("data")))
    print(
        f"{ARCH}: {sizes[0] / 1e6:.0f} MB pushed, {(sizes[1] - sizes[0]) / 1e6:.2f} MB after a change of code"
    )
    assert 0 < sizes[1] - sizes[0] < 5e6
    podman("rmi", "-f", podman("image", "inspect", "-f", "{{.Id}}", changed))
    pulled = podman("pull", "--tls-verify=false", f"{address}/embedding-api:changed")
    podman("tag", pulled, changed)
    assert json.loads(podman("image", "inspect", changed))[0]["Architecture"] == ARCH
