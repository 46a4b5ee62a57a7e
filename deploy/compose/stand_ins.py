"""Images of Redis, Prometheus and Caddy from Debian's packages, for the compose file."""

import subprocess
from pathlib import Path

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


def write_packages(tar: Path, architecture: str) -> None:
    """The files that each image has, which the recipes call the image `packages`."""
    merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    chosen = ("--variant=extract", f"--include={PACKAGES}", merged, f"--extract-hook={TOOLS}")
    sources = [path for path in SOURCES if Path(path).exists() and "deb" in Path(path).read_text()]
    made = ("mmdebstrap", "--quiet", f"--architectures={architecture}", *chosen, "bookworm")
    subprocess.run([*made, str(tar), *sources], check=True, capture_output=True, timeout=900)


def dockerfiles() -> dict[str, str]:
    """The content of each one's Dockerfile by service."""
    return {service: f"FROM packages\n{recipe}\n" for service, recipe in RECIPES.items()}
