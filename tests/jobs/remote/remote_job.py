"""embed_remote in its own process, and HTTP answers written by hand."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from lab.server import ROOT
from tests.jobs.conftest import write_jsonl
from tests.jobs.remote.stub_service import CARD

MB = 1_000_000
MAIN = """
import sys
from pathlib import Path
from jobs.exit_status import run_command
from jobs.embed_remote import main
status = run_command(main)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print("peak", peak.split()[1], flush=True)
sys.exit(status)
"""


@dataclass(frozen=True)
class RemoteRun:
    status: int
    said: str  # stderr
    peak: float  # resident MB
    parts: list[str]
    bad: str


def run(url: str, directory: Path, *options: str, rows: int = 3) -> RemoteRun:
    source = write_jsonl(directory / "a.jsonl", [{"text": f"text {n}"} for n in range(rows)])
    output = directory / "out"
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, url, str(source), str(output), *options],
        cwd=ROOT,
        env=os.environ | {"JWT_TOKEN": "token"},
        capture_output=True,
        timeout=120,
    )
    [peak] = [line for line in ran.stdout.decode().splitlines() if line.startswith("peak ")]
    parts = sorted(path.name for path in output.glob("part-*"))
    bad = output / "_bad_rows.jsonl"
    said = ran.stderr.decode()
    return RemoteRun(
        ran.returncode,
        said,
        int(peak.split()[1]) * 1024 / MB,
        parts,
        bad.read_text() if bad.exists() else "",
    )


def assert_one_line(ran: RemoteRun, said: str) -> None:
    assert (ran.status, ran.parts) == (1, []), ran.said
    assert said in ran.said
    assert len(ran.said.splitlines()) == 1


def assert_printable(said: str) -> None:
    """No control characters, which a terminal would interpret."""
    assert not [char for char in said if not char.isprintable() and char != "\n"], ascii(said)


def send_head(handler: BaseHTTPRequestHandler, *headers: tuple[str, str]) -> None:
    handler.send_response(200)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()


def service_with(embed: Callable[[BaseHTTPRequestHandler], None]) -> Any:
    """A service with a valid model card; `embed` writes its answers to /batch-embed."""

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        if handler.path != "/v1/models":
            embed(handler)
            return
        content = json.dumps(CARD).encode()
        send_head(handler, ("X-Embedding-Fingerprint", "f"), ("Content-Length", str(len(content))))
        handler.wfile.write(content)

    return answer
