"""The services of docker-compose.yml, driven by podman-compose."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from lab.server import ROOT

URL = "http://127.0.0.1:8000"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
NEXT = "IMAGE=embedding-api:next\nPREPARE_IMAGE=embedding-api-prepare:next\n"
PREPARED = "all-minilm-l6-v2-int8 is prepared already"  # what the service `model` says then
COMPOSE = ("-m", "podman_compose", "--profile", "https")
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


@dataclass(frozen=True)
class Stack:
    """A server's folder, and podman-compose in a directory of its own."""

    folder: Path
    tools: Path

    def compose(self, *arguments: str, timeout: float = 600) -> str:
        command = (sys.executable, *COMPOSE, *arguments)
        return run(*command, cwd=self.folder, env=self._environment(), timeout=timeout)

    def shell(self, commands: str) -> str:
        """Run what a document prints, with podman in place of docker."""
        compose = " ".join((sys.executable, *COMPOSE))
        docker = f"""docker() {{
          if [ "$1" = compose ]; then shift; {compose} "$@"; else podman "$@"; fi
        }}
        """
        command = ("bash", "-euo", "pipefail", "-c", docker + commands)
        return run(*command, cwd=self.folder, env=self._environment())

    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.tools)}

    def up(self, settings: str) -> None:
        """Start everything with that `.env`."""
        self.folder.joinpath(".env").write_text(settings)
        self.compose("up", "-d", "model", *STARTED)

    def recreate(self, settings: str) -> None:
        """The same, with new containers: podman-compose does not notice a change of `env_file`."""
        self.compose("down")
        self.up(settings)

    def name_of(self, service: str) -> str:
        default = f"{self.folder.name}_{service}_1"
        return str(SERVICES[service].get("container_name", default))

    def about(self, service: str) -> dict[str, Any]:
        [found] = json.loads(run("podman", "inspect", self.name_of(service)))
        return dict(found)

    def log(self, service: str) -> str:
        done = subprocess.run(
            ["podman", "logs", self.name_of(service)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.stdout + done.stderr

    def inside(self, service: str, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["podman", "exec", self.name_of(service), *command],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def is_healthy(self, service: str) -> bool:
        """Its health check, run by hand, as there may be no systemd to run it."""
        check = ["podman", "healthcheck", "run", self.name_of(service)]
        return not subprocess.run(check, capture_output=True, timeout=60).returncode


def is_ready() -> bool:
    try:
        return httpx.get(f"{URL}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False
