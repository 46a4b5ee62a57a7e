"""The services of docker-compose.yml, driven by Docker."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from lab.server import ROOT

T = TypeVar("T")
URL = "http://127.0.0.1:8000"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
NEXT = "IMAGE=embedding-api:next\nPREPARE_IMAGE=embedding-api-prepare:next\n"
PREPARED = "all-minilm-l6-v2-int8 is prepared already"  # what the service `model` says then
STARTED = ("embedding-api", "redis", "prometheus", "caddy")  # Debian has no package of Grafana


def run(*command: str | Path, timeout: float = 600, **options: Any) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=timeout, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return str(done.stdout).strip()


def eventually(holds: Callable[[], bool], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.5)
    return False


@contextmanager
def repeated(call: Callable[[], T], *, pause: float) -> Iterator[list[T]]:
    """Call again and again meanwhile, and yield the list of answers so far."""
    over = threading.Event()
    answers: list[T] = []

    def repeat() -> None:
        while not over.is_set():
            answers.append(call())
            time.sleep(pause)

    caller = threading.Thread(target=repeat)
    caller.start()
    try:
        yield answers
    finally:
        over.set()
        caller.join(1200)


@dataclass(frozen=True)
class Stack:
    """The folder of a server."""

    folder: Path

    def compose(self, *arguments: str, timeout: float = 600) -> str:
        command = ("docker", "compose", "--profile", "https", *arguments)
        return run(*command, cwd=self.folder, timeout=timeout)

    def shell(self, commands: str) -> str:
        """Run what a document prints."""
        return run("bash", "-euo", "pipefail", "-c", commands, cwd=self.folder)

    def up(self, settings: str) -> None:
        """Start everything with that `.env`."""
        self.folder.joinpath(".env").write_text(settings)
        self.compose("up", "-d", "model", *STARTED)

    def name_of(self, service: str) -> str:
        default = f"{self.folder.name}-{service}-1"
        return str(SERVICES[service].get("container_name", default))

    def about(self, service: str) -> dict[str, Any]:
        [found] = json.loads(run("docker", "inspect", self.name_of(service)))
        return dict(found)

    def log(self, service: str) -> str:
        done = subprocess.run(
            ["docker", "logs", self.name_of(service)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.stdout + done.stderr

    def inside(self, service: str, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["docker", "exec", self.name_of(service), *command],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def is_healthy(self, service: str) -> bool:
        return bool(self.about(service)["State"]["Health"]["Status"] == "healthy")


def is_ready() -> bool:
    try:
        return httpx.get(f"{URL}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False
