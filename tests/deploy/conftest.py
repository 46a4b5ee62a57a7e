"""The live service behind real proxies, and a real Prometheus that reads it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lab.server import CACHE, Server, serve
from lab.service_keys import KEY
from tests.deploy.processes import prometheus_of
from tests.deploy.proxies import Proxy, caddy, nginx

FAILURES = 5  # bad tokens of an address per minute
BODY_SECONDS = 4  # for a body to arrive


@pytest.fixture(scope="package")
def origin(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    """The service behind every proxy; it trusts the X-Forwarded-For of 127.0.0.1, the default."""
    settings = {
        "MODEL_QUANTIZATION": "fp32",
        "RATE_LIMIT_PER_MIN": "100000",
        "FAILED_AUTH_PER_MIN": str(FAILURES),
    }
    settings |= {"BODY_TIMEOUT": str(BODY_SECONDS), "MAX_CONCURRENT_PER_USER": "100"} | CACHE
    directory = tmp_path_factory.mktemp("origin")
    keys = directory / "keys"
    keys.write_text(f"indexer:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    settings |= {"SERVICE_KEYS_FILE": str(keys), "BATCH_DIRECTORY": str(directory / "batches")}
    with serve(directory / "log", settings) as running:
        yield running


@pytest.fixture(scope="package", params=["caddy", "nginx"])
def proxy(
    request: pytest.FixtureRequest, origin: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    start = {"caddy": caddy, "nginx": nginx}[request.param]
    with start(tmp_path_factory.mktemp(request.param), httpx.URL(origin.url).port or 0) as running:
        yield running


@pytest.fixture(scope="package")
def prometheus(origin: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus_of(
        tmp_path_factory.mktemp("prometheus"), httpx.URL(origin.url).port or 0
    ) as address:
        yield address
