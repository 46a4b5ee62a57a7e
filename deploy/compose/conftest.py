"""The compose file's services and their images, without a registry."""

from collections.abc import Iterator

import pytest

from deploy.compose.stack import NEXT, SERVICES, STARTED, Stack, eventually, run
from deploy.compose.stand_ins import dockerfiles, write_packages
from deploy.torch_index import torch_index
from lab.server import ROOT, copy_source

# Builds reach the index of packages on loopback, and this machine's own connection.
OVERRIDE = """
services:
  model: &build {{build: {{network: host, args: {{TORCH_INDEX: "{index}"}}}}}}
  embedding-api: *build
"""


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> None:
    tar = tmp_path_factory.mktemp("packages") / "root.tar"
    write_packages(tar, "amd64")
    run("docker", "import", tar, "packages")
    tar.unlink()
    for service, content in dockerfiles().items():
        run("docker", "build", "-q", "-t", SERVICES[service]["image"], "-", input=content)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A clone of the project, as on a server, with its images and those of a next version."""
    folder = copy_source(tmp_path_factory.mktemp("clone") / "server")
    (folder / ".dockerignore").write_bytes((ROOT / ".dockerignore").read_bytes())
    (folder / ".env").touch()
    stack = Stack(folder)
    override = folder / "docker-compose.override.yml"
    with torch_index(tmp_path_factory.mktemp("index")) as index:
        override.write_text(OVERRIDE.format(index=index))
        stack.compose("build", timeout=2400)
        profile = folder / "embedder" / "profile.py"
        profile.write_text(profile.read_text().replace("LAYOUT = ", "LAYOUT = 100"))
        (folder / ".env").write_text(NEXT)
        stack.compose("build", timeout=2400)
    override.unlink()
    return stack


@pytest.fixture(scope="session")
def alone(built: Stack, stand_ins: None) -> None:
    """No network from here on, since all is downloaded."""
    run("ip", "link", "set", "tap0", "down")


@pytest.fixture(scope="session")
def stack(alone: None, built: Stack) -> Iterator[Stack]:
    """The services, removed with their volumes at the end."""
    try:
        yield built
    finally:
        built.compose("down", "-v")


@pytest.fixture(params=STARTED)
def service(stack: Stack, request: pytest.FixtureRequest) -> str:
    """Each service, once it is healthy."""
    name = str(request.param)
    assert eventually(lambda: stack.is_healthy(name)), stack.log(name)
    return name
