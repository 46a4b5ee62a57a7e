"""What the machine downloads: the repository, images, and a model."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.compose.stack import SERVICES
from deploy.compose.stand_ins import dockerfiles, write_packages
from deploy.served_files import served
from deploy.vm.machine import HOST, commands, run
from lab.server import ROOT, copy_source

IMAGE, MODELS = Path(os.environ["VM_IMAGE"]), Path(os.environ["VM_MODELS"])


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
    with served(directory) as url:
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
    """The image of the service, stand-ins for the others, and a model store, in the machine.

    Built and prepared here: under emulation that takes hours.
    """
    directory, url = files
    (directory / "image.tar").symlink_to(IMAGE)
    tar = ("tar", "-C", str(MODELS), "-cf", str(directory / "models.tar"), ".")
    subprocess.run(tar, check=True, timeout=60)
    write_packages(directory / "packages.tar", "arm64")
    run(f"curl -sf {url}/image.tar | docker load -q > loaded && cat loaded", 1200)
    run("docker tag $(sed 's/^Loaded image: //' loaded) embedding-api:latest")
    run(f"mkdir models && curl -sf {url}/models.tar | tar -C models -x && chmod -R a+rX models")
    run(f"curl -sf {url}/packages.tar | docker import - packages", 1200)
    for service, content in dockerfiles().items():
        build = f"docker build -q -t {SERVICES[service]['image']} -"
        run(f"{build} <<'DOCKERFILE'\n{content}DOCKERFILE", 1200)


@pytest.fixture(scope="session")
def docker() -> None:
    """Docker, as the page installs it."""
    run(commands("sudo apt-get update").replace("docker-compose-v2", "docker-compose"), 2400)
