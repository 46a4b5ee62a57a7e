"""A real server: `bentoml serve` in its own process."""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import jwt

ROOT = Path(__file__).resolve().parent.parent
BENTOML = Path(sys.executable).with_name("bentoml")
SECRET = "a-secret-for-tests-of-48-characters-and-no-more!"
# Parts of texts that tests send; they must not appear in a log.
TEXTS = (
    "playing a guitar",
    "안녕하세요",
    "private sentence",
    "still here",
    "word word",
    "text number",
)
USER = "6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a0001"


# Texts of tests and measurements repeat, and each is to be computed. So servers have no cache, but
# those that are started with this.
CACHE = {"CACHE_BYTES": "67108864"}


def copy_source(directory: Path) -> Path:
    """Copy the source tree without the developer's `.env`, so that tests know every setting."""
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "build")
    return Path(shutil.copytree(ROOT, directory, dirs_exist_ok=True, ignore=unwanted))


SOURCE = copy_source(Path(tempfile.mkdtemp(prefix="source-")))
atexit.register(shutil.rmtree, SOURCE, ignore_errors=True)


def token(user_id: str = USER, **claims: object) -> str:
    """An access token as Supabase signs it with a shared secret; claims of None are left out.

    Valid for 8 hours, since some are made when tests are collected and used much later.
    """
    now = int(time.time())
    everything = {
        "sub": user_id,
        "aud": "authenticated",
        "role": "authenticated",
        "iat": now,
        "exp": now + 8 * 3600,
        **claims,
    }
    kept = {name: value for name, value in everything.items() if value is not None}
    return jwt.encode(kept, SECRET, algorithm="HS256")


def free_port() -> int:
    """A port that no process listens on.

    Not one of those that the system gives to outgoing connections: one of them may be given away
    before the server listens. Nor one of Ray's, which end at 19,999.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("100 ports are in use")


@dataclass(frozen=True)
class Server:
    """A running server and the file of its output."""

    url: str
    process: "subprocess.Popen[bytes]"
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def client(self, bearer: str | None = None) -> httpx.Client:
        """An HTTP client that sends `bearer`, by default a valid token of `USER`."""
        headers = {"Authorization": f"Bearer {bearer or token()}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Raises AssertionError if the server ends or is not ready in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended:\n{self.log()}"
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready in {seconds} s:\n{self.log()}")


@contextmanager
def serve(
    log_file: Path,
    environment: Mapping[str, str],
    *,
    target: str = ".",
    directory: Path = SOURCE,
    ready: bool = True,
    port: int | None = None,
    bentoml: Path = BENTOML,
) -> Iterator[Server]:
    """Run `bentoml serve TARGET`, and end it with SIGTERM.

    Args:
        log_file: where its output goes.
        environment: added to the environment of bare_environment.
        target: a Bento or a directory.
        directory: where it is started.
        ready: wait until it is ready.
        port: None for a free one.
        bentoml: the program.

    Raises:
        AssertionError: it did not start, or its log has a secret or a text.
        subprocess.TimeoutExpired: it did not stop within 30 seconds of SIGTERM.
    """
    port = port or free_port()
    command = [str(bentoml), "serve", target]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**bare_environment(), "PORT": str(port), "CACHE_BYTES": "0", **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, log_file)
    try:
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert_nothing_leaked(server.log())


def assert_nothing_leaked(log: str) -> None:
    """Check that a log has no secret, no token and no text of a test."""
    lines = [
        line
        for line in log.splitlines()
        if any(private in line for private in (SECRET, "eyJ", "embk_", *TEXTS))
    ]
    assert not lines, lines[:5]


def bare_environment() -> dict[str, str]:
    """The variables that a process needs to run, with the secret as the only setting."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "BENTOML_HOME")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "SUPABASE_JWT_SECRET": SECRET
    }
