"""A virtual machine like a new server, reached by SSH, and the folder that it clones."""

import os
import subprocess

import httpx

from lab.server import ROOT
from tests.printed import printed_commands

SSH = ("ssh", "-F", os.environ["VM_SSH"], "vm")
HTTPS = f"https://localhost:{os.environ['VM_HTTPS']}"
HOST = "10.0.2.2"  # this machine's loopback, as the virtual machine sees it
PAGE = ROOT / "docs" / "oracle.md"


def run(commands: str, timeout: float = 600) -> str:
    """The output of commands in a new session of the machine's user."""
    script = f"set -euo pipefail\n{commands}\n"
    done = subprocess.run(
        [*SSH, "bash -l -s"], input=script, capture_output=True, text=True, check=False,
        timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def commands(first_words: str) -> str:
    """The block of the page that starts with these words."""
    return printed_commands(PAGE, first_words)


def is_up() -> bool:
    done = subprocess.run([*SSH, "true"], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def status(path: str, timeout: float = 30) -> int:
    """Of a GET from outside through Caddy, whose certificate is its own; 0: no answer."""
    try:
        return httpx.get(f"{HTTPS}{path}", verify=False, timeout=timeout).status_code
    except httpx.TransportError:
        return 0
