"""Programs that tests run: started, waited for and ended."""

import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from lab.server import free_port
from tests.deploy.promql import DEPLOY


@contextmanager
def running(command: list[str], directory: Path, up: Callable[[], bool]) -> Iterator[None]:
    """Run `command` in `directory`, and wait until it is `up`."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(directory)}
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 20
        while not up():
            assert process.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline, (directory / "output").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str, trust: ssl.SSLContext | None = None, status: int = 200) -> bool:
    """Whether a GET is answered with `status`."""
    try:
        return httpx.get(url, verify=trust or True, timeout=5).status_code == status
    except httpx.TransportError:
        return False


@contextmanager
def prometheus_of(directory: Path, origin: int) -> Iterator[str]:
    """A real Prometheus with the shipped rules that scrapes every second; yields its address."""
    port = free_port()
    shutil.copytree(DEPLOY / "prometheus" / "rules", directory / "rules")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    text = text.replace("embedding-api:8000", f"127.0.0.1:{origin}").replace(": 15s", ": 1s")
    (directory / "prometheus.yml").write_text(text)
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, directory, lambda: answers(f"http://127.0.0.1:{port}/-/ready")):
        yield f"http://127.0.0.1:{port}"
