"""The live servers that tests share: the real service, a real Redis, real tokens."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.server import SOURCE, Server, bare_environment, serve

PLENTY = {"RATE_LIMIT_PER_MIN": "1000000", "FAILED_AUTH_PER_MIN": "1000000"}


@pytest.fixture(scope="session")
def bento(model_store: Path) -> str:
    """The service built into a Bento; the tag."""
    command = [str(Path(sys.executable).with_name("bentoml")), "build", "-o", "tag"]
    environment = bare_environment() | {"MODEL_QUANTIZATION": "fp32"}
    built = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return built.stdout.strip().removeprefix("__tag__:")


@pytest.fixture(scope="session", params=["source", "bento"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model_store: Path, redis_url: str
) -> Iterator[Server]:
    """The starter model in fp32 with Redis and a limit nobody reaches, from source and from the Bento.

    The Bento is served elsewhere and is not told which model it holds.
    """
    directory = tmp_path_factory.mktemp("server")
    environment = PLENTY | {"REDIS_URL": redis_url}
    if request.param == "bento":
        where: dict[str, Any] = {"target": request.getfixturevalue("bento"), "directory": directory}
    else:
        where, environment = {}, environment | {"MODEL_QUANTIZATION": "fp32"}
    with serve(directory / "log", environment, **where) as running:
        yield running
