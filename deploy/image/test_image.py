"""The image of one architecture: its contents, its start, and that its vectors are the model's own.

    make test-image
    make test-arm64

Runs inside deploy/image/lab.sh, which provides podman and names the architecture in LAB_ARCH.
Writes the measured figures to deploy/image/ARCH.json.
"""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from deploy.image.containers import (
    ARCH,
    BASE,
    MACHINE,
    NATIVE,
    TEXTS,
    container,
    podman,
    post,
    start,
    stored,
    vectors,
)
from embedder.model import EmbeddingModel
from embedder.prepare.original import load_original
from embedder.prepare.source import locate

FLOOR = {"int8": 0.98, "fp32": 0.9999}  # least cosine to sentence-transformers in fp32
LOAD_SECONDS, CALLERS = 30, 8
# kB: the peak memory of each process of a container except this one, added up. They may not have
# had it at the same time.
PEAK = r"""
import os, pathlib, re
own = str(os.getpid())
files = [path for path in pathlib.Path("/proc").glob("[0-9]*/status") if path.parent.name != own]
print(sum(int(kb) for path in files for kb in re.findall(r"VmHWM:\s+(\d+)", path.read_text())))
"""


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
    here = EmbeddingModel.load(stored(store, names[model], quantization), num_threads=1)
    np.testing.assert_array_equal(found.astype(np.float32), here.embed(TEXTS))  # to the bit
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
    """In a network namespace with only a loopback interface."""

    def is_healthy(one: str) -> bool:
        check = ["podman", "healthcheck", "run", one]
        return subprocess.run(check, capture_output=True, timeout=60).returncode == 0

    one, _ = start([*BASE, "--network", "none", baked], is_healthy)
    podman("rm", "-f", "-t", "20", one)


def test_without_a_model_it_says_what_to_do(image: str) -> None:
    said = podman("run", "--rm", *BASE, image, check=False)
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
        "import os; print(*(one for d, ds, fs in os.walk('/bento') "
        "for one in (os.path.join(d, f) for f in ds + fs) "
        "if not os.access(one, os.R_OK)), os.path.getsize('/bento/src/service.py') > 0)",
    )  # fmt: skip
    assert hidden == "True"
