"""What the machine downloads: the repository, torch, and images that stand in for a registry's."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.compose.stack import SERVICES
from deploy.compose.stand_ins import dockerfiles, write_packages
from deploy.torch_index import torch_index
from deploy.vm.machine import HOST, commands, run
from lab.server import ROOT, copy_source

TORCH = "torch==2.10.0"  # the last on PyPI that has no CUDA for ARM64
PLATFORM = ("--only-binary=:all:", "--platform=manylinux_2_28_aarch64", "--python-version=3.11")
BASE = ". deploy/image/debian.sh && write_base arm64 {tar}"


@dataclass(frozen=True)
class Repository:
    """A repository that is served by HTTP, and its working tree."""

    url: str
    tree: Path

    def git(self, *words: str) -> None:
        identity = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
        command = ["git", *identity, *words]
        subprocess.run(command, cwd=self.tree, check=True, capture_output=True, timeout=60)

    def publish(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("update-server-info")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory, and the URL at which the machine finds its files."""
    directory = tmp_path_factory.mktemp("files")
    with torch_index(directory, TORCH, *PLATFORM) as url:
        yield directory, url.replace("127.0.0.1", HOST)


@pytest.fixture(scope="session")
def repository(files: tuple[Path, str]) -> Repository:
    directory, url = files
    tree = copy_source(directory / "server")
    for name in (".dockerignore", ".env.example", ".gitignore"):
        (tree / name).write_bytes((ROOT / name).read_bytes())
    repository = Repository(f"{url}/server/.git", tree)
    repository.git("init", "--quiet")
    repository.publish("Version one")
    return repository


@pytest.fixture(scope="session")
def images(files: tuple[Path, str], docker: None) -> None:
    """The images that the compose file and the Dockerfile name, in the machine's Docker."""
    directory, url = files
    write_packages(directory / "packages.tar", "arm64")
    base = BASE.format(tar=directory / "base.tar")
    subprocess.run(["bash", "-euo", "pipefail", "-c", base], cwd=ROOT, check=True, timeout=900)
    run(f"curl -sf {url}/packages.tar | docker import - packages", 1200)
    python = """-c 'CMD ["python3"]' -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt'"""
    run(f"curl -sf {url}/base.tar | docker import {python} - python:3.11-slim", 1200)
    for service, content in dockerfiles().items():
        build = f"docker build -q -t {SERVICES[service]['image']} -"
        run(f"{build} <<'DOCKERFILE'\n{content}DOCKERFILE", 1200)


@pytest.fixture(scope="session")
def docker() -> None:
    """Docker, as the page installs it."""
    run(commands("sudo apt-get update").replace("docker-compose-v2", "docker-compose"), 2400)
