"""Images and tools for docker-compose.yml, without a registry.

The images of Redis, Prometheus and Caddy are made from Debian's packages, with the names that the
compose file gives.
"""

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
# Builds reach the index of packages on loopback, and this machine's own connection.
OVERRIDE = """
services:
  model: &build {{build: {{network: host, args: {{TORCH_INDEX: "{index}"}}}}}}
  embedding-api: *build
"""


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> None:
    tar = tmp_path_factory.mktemp("packages") / "root.tar"
    merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    chosen = ("--variant=extract", f"--include={PACKAGES}", merged, f"--extract-hook={TOOLS}")
    sources = [path for path in map(Path, SOURCES) if path.exists() and "deb" in path.read_text()]
    run("mmdebstrap", "--quiet", *chosen, "bookworm", tar, *sources, timeout=900)
    run("docker", "import", tar, "packages")
    tar.unlink()
    for service, recipe in RECIPES.items():
        content = f"FROM packages\n{recipe}\n"
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
