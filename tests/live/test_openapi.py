"""The OpenAPI document against the server that serves it."""

import subprocess
import sys
from pathlib import Path

from tests.live.server import Server, bare_environment, token


def test_the_server_does_what_its_document_says(server: Server, tmp_path: Path) -> None:
    """Schemathesis: valid and invalid calls of every operation; no 5xx, every answer as described."""
    schemathesis = str(Path(sys.executable).with_name("st"))
    header = f"Authorization: Bearer {token()}"
    command = [schemathesis, "run", f"{server.url}/openapi.json", "-H", header, "--checks", "all", "--no-color"]
    ran = subprocess.run(
        [*command, "--max-examples", "150"], cwd=tmp_path, env=bare_environment(), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
