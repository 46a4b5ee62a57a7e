"""A Node.js that runs TypeScript, from an npm package: that of Debian is too old."""

import platform
import subprocess
from pathlib import Path

VERSION = "24.9.0"
_PLATFORMS = {"x86_64": "x64", "aarch64": "arm64"}


def install_node(directory: Path) -> Path:
    """Install it into a directory, and return the program."""
    package = f"node-linux-{_PLATFORMS[platform.machine()]}"
    command = ["npm", "install", "--prefix", str(directory), "--ignore-scripts", "--no-audit"]
    subprocess.run([*command, "--no-fund", f"{package}@{VERSION}"], check=True)
    return directory / "node_modules" / package / "bin" / "node"
