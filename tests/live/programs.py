"""Programs that call a running service, run as their reader runs them."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.server import ROOT, bare_environment, token


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command says that ends well."""
    everything = bare_environment() | {"JWT_TOKEN": token()} | dict(environment or {})
    ran = subprocess.run(
        [*map(str, command)], env=everything, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
