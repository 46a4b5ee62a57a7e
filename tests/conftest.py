"""Real parts for every test: a prepared model, a Redis."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports bentoml or huggingface_hub: nothing is sent anywhere, no model
# comes from anywhere, and the user's own model store stays as it is.
os.environ |= {
    "BENTOML_DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # as when a user prepares a model
    "BENTOML_HOME": tempfile.mkdtemp(prefix="bentoml-home-"),
}

atexit.register(shutil.rmtree, os.environ["BENTOML_HOME"], ignore_errors=True)
# A shell starts what runs in its background with SIGINT ignored, and every child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import pytest

from lab.deno import install_examples, program
from lab.once import made_once
from lab.postgres_server import postgres_server
from lab.redis_server import RedisServer
from lab.server import SOURCE
from lab.signing import Clock, Project

TESTS = Path(__file__).parent

# A busy machine makes any example slow.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that all processes of a run have in common: `-n 2` starts two."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def model_store(shared: Path) -> Path:
    """BENTOML_HOME with the starter model in fp32, prepared as a user prepares it."""
    command = [sys.executable, "download_model.py"]

    def prepare(home: Path) -> None:
        environment = os.environ | {"MODEL_QUANTIZATION": "fp32", "BENTOML_HOME": str(home)}
        subprocess.run(command, cwd=SOURCE, env=environment, check=True)

    home = Path(os.environ["BENTOML_HOME"])
    shutil.copytree(made_once(shared / "starter", prepare), home, dirs_exist_ok=True)
    return home


@pytest.fixture(scope="session")
def javascript(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the examples in JavaScript, with their packages; this process's own."""
    packages = made_once(shared / "javascript", install_examples)
    own = tmp_path_factory.mktemp("javascript") / "examples"
    shutil.copytree(packages, own, ignore=shutil.ignore_patterns("node_modules"))
    (own / "node_modules").symlink_to(packages / "node_modules")
    return own


@pytest.fixture(scope="session")
def deno(javascript: Path) -> Path:
    """The program Deno."""
    return program(javascript)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server that keeps nothing on disk."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """A real PostgreSQL with pgvector."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for every test that leaves it alive; users are told apart by their ids."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def fragile_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, hung and broken."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


# What takes longest comes first, so that no process is left alone with it at the end.
ORDER = ("native", "live", "hostile", "embedder/prepare", "jobs", "deploy")
SERVERS = {
    "redis", "redis_url", "fragile_redis", "database_url", "javascript", "model_store", "server",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server or a prepared model: `make test-fast` leaves it out."""
    items.sort(key=lambda item: _place(item.path))
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


def _place(file: Path) -> int:
    inside = file.relative_to(TESTS).as_posix()
    return next((n for n, part in enumerate(ORDER) if inside.startswith(f"{part}/")), len(ORDER))
