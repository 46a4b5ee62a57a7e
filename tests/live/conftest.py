"""The live servers that tests share: the real service, a real Redis, real tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.server import Server, serve

PLENTY = {"RATE_LIMIT_PER_MIN": "1000000", "MODEL_QUANTIZATION": "fp32", "FAILED_AUTH_PER_MIN": "1000000"}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model_store: Path, redis_url: str) -> Iterator[Server]:
    """The starter model in fp32 with Redis and a limit nobody reaches."""
    log_file = tmp_path_factory.mktemp("server") / "log"
    with serve(log_file, PLENTY | {"REDIS_URL": redis_url}) as running:
        yield running
