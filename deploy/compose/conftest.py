"""Images and tools for docker-compose.yml, without a registry.

The images of Redis, Prometheus and Caddy are made from Debian's packages, with the names that the
compose file gives.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.compose.stack import NEXT, SERVICES, STARTED, Stack, eventually, run
from deploy.torch_index import torch_index
from lab.server import ROOT, copy_source

# The instructions of the real images.
RECIPES = {
    "redis": "RUN mkdir /data && chown 999:1000 /data\nWORKDIR /data\n"
    """ENTRYPOINT ["sh", "-c", "[ $1 != redis-server ] || set -- \\"$@\\" --protected-mode no; """
    """exec \\"$@\\"", "--"]""",
    "prometheus": "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
    'ENTRYPOINT ["prometheus"]',
    "caddy": "ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config\n"
    'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
}
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
PACKAGES = "base-files,busybox,ca-certificates,netcat-openbsd,redis-server,prometheus,caddy"
# Programs for the recipes and health checks; packages are unpacked and not configured.
TOOLS = """
for tool in sh wget touch mkdir chown tar; do
  [ -e "$1/usr/bin/$tool" ] || ln -s busybox "$1/usr/bin/$tool"
done
ln -s nc.openbsd "$1/usr/bin/nc"
mkdir -p "$1/tmp"
"""
CLONE_NEWNET = 0x40000000  # of linux/sched.h; os.unshare needs Python 3.12


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """podman-compose in its own directory, apart from the project's packages."""
    directory = tmp_path_factory.mktemp("tools")
    outer = Path(sys.executable).resolve()  # the virtual environment has no pip
    install = ("-m", "pip", "install", "--quiet", "--target", directory, "podman-compose==1.6.0")
    run(outer, *install, timeout=300)
    return directory


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> None:
    tar = tmp_path_factory.mktemp("packages") / "root.tar"
    merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    chosen = ("--variant=extract", f"--include={PACKAGES}", merged, f"--extract-hook={TOOLS}")
    sources = [path for path in map(Path, SOURCES) if path.exists() and "deb" in path.read_text()]
    run("mmdebstrap", "--quiet", *chosen, "bookworm", tar, *sources, timeout=900)
    run("podman", "import", "-q", tar, "localhost/packages")
    tar.unlink()
    for service, recipe in RECIPES.items():
        tag = SERVICES[service]["image"]
        name = f"docker.io/{tag if '/' in tag else 'library/' + tag}"
        content = f"FROM localhost/packages\n{recipe}\n"
        run("podman", "build", "-q", "-t", name, "-f", "-", input=content)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the project, as on a server, with an empty `.env`."""
    folder = copy_source(tmp_path_factory.mktemp("clone") / "server")
    (folder / ".dockerignore").write_bytes((ROOT / ".dockerignore").read_bytes())
    (folder / ".env").touch()
    return folder


@pytest.fixture(scope="session")
def built(folder: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The images, built as `docker compose build` builds them, and those of a next version."""
    stack = Stack(folder, tools)
    with torch_index(tmp_path_factory.mktemp("index")) as index:
        options = f"--network=host --layers --format=docker --build-arg=TORCH_INDEX={index}"
        _build(stack, options)
        profile = folder / "embedder" / "profile.py"
        profile.write_text(profile.read_text().replace("LAYOUT = ", "LAYOUT = 100"))
        (folder / ".env").write_text(NEXT)
        _build(stack, options)
    return stack


def _build(stack: Stack, options: str) -> None:
    """One after the other: podman-compose builds at the same time what has layers in common."""
    for service in ("model", "embedding-api"):
        stack.compose(f"--podman-build-args={options}", "build", service, timeout=2400)


@pytest.fixture(scope="session")
def alone(built: Stack, stand_ins: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Move this process into a network namespace without a network, once all is downloaded."""
    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
    run("ip", "link", "set", "lo", "up")
    networks = f'\n[network]\nnetwork_config_dir = "{tmp_path_factory.mktemp("networks")}"\n'
    with Path(os.environ["CONTAINERS_CONF"]).open("a") as file:
        file.write(networks)


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
