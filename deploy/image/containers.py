"""Containers of the image, run by podman, and calls to the service in them."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedder.profile import model_tag
from lab.server import SECRET, assert_nothing_leaked, free_port, token

ARCH = os.environ["LAB_ARCH"]
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[ARCH]
NATIVE = platform.machine() == MACHINE
MEMORY = {"amd64": "1g", "arm64": "3g"}[ARCH]  # the emulator keeps all code that it translates
TEXTS = (
    "A man is playing a guitar",
    "안녕하세요, 반갑습니다!",
    "def area(r): return 3.14159 * r ** 2",
    "word " * 120,
)
# A process that is forked in the emulator can wait for a lock of the emulator for ever: about one
# start in ten. A start takes 30 to 45 s there.
STARTS, READY_SECONDS = (1, 300) if NATIVE else (3, 120)
QUANTIZATIONS = ("int8", "fp32")
CRASHES = (
    "SIGILL",
    "SIGSEGV",
    "Illegal instruction",
    "Segmentation fault",
    "uncaught target signal",
    "Traceback",
)
BASE = [
    *("--platform", f"linux/{ARCH}"),
    "--read-only",
    *("--tmpfs", "/tmp"),
    *("--cap-drop", "all"),
    *("--memory", MEMORY),
    *("-e", f"SUPABASE_JWT_SECRET={SECRET}"),
]


def podman(*arguments: str, check: bool = True, timeout: float = 600) -> str:
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, check=False, timeout=timeout
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return (done.stdout + ("" if check else done.stderr)).strip()


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
    url = f"http://127.0.0.1:{port}"
    one, ready_after = start([*BASE, *emulated, *options, image, *listen], lambda _: is_ready(url))
    try:
        print(f"{image} {options[:2]} ready in {ready_after:.1f} s")
        yield Container(one, url, ready_after)
        log = podman("logs", one, check=False)
    finally:
        podman("rm", "-f", "-t", "20", one, check=False)
    assert_nothing_leaked(log)
    assert not [word for word in CRASHES if word in log], log


def start(options: Sequence[str], ready: Callable[[str], bool]) -> tuple[str, float]:
    """Run a container. Returns its id, and the seconds until it was ready."""
    for _ in range(STARTS):
        started = time.monotonic()
        one = podman("run", "-d", *options)
        while time.monotonic() < started + READY_SECONDS:
            if ready(one):
                return one, time.monotonic() - started
            if podman("inspect", "-f", "{{.State.Running}}", one) != "true":
                pytest.fail("it ended:\n" + podman("logs", one, check=False))
            time.sleep(0.1)
        log = podman("logs", one, check=False)
        podman("rm", "-f", "-t", "20", one, check=False)
        assert not [word for word in CRASHES if word in log], log
        print(f"not ready in {time.monotonic() - started:.0f} s")
    pytest.fail(log)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def stored(store: Path, name: str | None, quantization: str) -> Path:
    """The directory of a model in a store."""
    versions = store / model_tag(name, quantization, "native")
    return versions / (versions / "latest").read_text().strip()


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {token()}"}, timeout=300)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def vectors(url: str) -> np.ndarray:
    return np.asarray(post(f"{url}/batch-embed", {"texts": TEXTS})["embeddings"])
